// Launches that a driver refuses, and kernels that do what they must not: a line each, the refusal, or "ran".
#include <cstdio>
#include <cstdlib>

#include "primitives.cuh"

using namespace genfast;

static int ran = 0;
static const float* global = static_cast<float*>(std::aligned_alloc(16, 1024));
static unsigned counter = 0;

template <class Kernel>
static void refuse(const char* name, const Launch& how, Kernel kernel) {
  ran = 0, counter = 0;
  emulation::launch(how, kernel);
  const bool happened = cudaGetLastError() == cudaSuccess;
  std::printf("%s: %d %s\n", name, ran, happened ? "ran" : cudaGetErrorString(cudaGetLastError()));
}
static void count() { ++ran; }

static void launches() {
  refuse("as it should be", {3, 64, 48 << 10}, count);
  refuse("no blocks", {dim3(0, 2), 32}, count);
  refuse("too many in y", {dim3(1, 65536), 32}, count);
  refuse("too many in z", {dim3(1, 1, 65536), 32}, count);
  refuse("too many threads", {1, dim3(32, 33)}, count);
  refuse("too many threads in z", {1, dim3(1, 1, 65)}, count);
  refuse("no threads", {1, dim3(32, 0)}, count);
  refuse("all threads", {2, 1024}, count);
}

// What is asked for and what is declared count together.
static void amounts_of_shared_memory() {
  for (size_t limit : {48, 99, 163, 227}) {
    emulation::device.shared_memory = limit << 10;
    refuse("shared memory, all", {1, 1, limit << 10}, count);
    refuse("shared memory, more", {1, 1, (limit << 10) + 1}, count);
    const auto declares = [] {
      GENFAST_SHARED(char[1 << 10], declared);
      declared[threadIdx.x] = 0, ++ran;
    };
    refuse("declared, all", {1, 32, (limit - 1) << 10}, declares);
    refuse("declared, more", {1, 32, (limit << 10) - 1023}, declares);
  }
  emulation::device.shared_memory = 48 << 10;
}

static void clusters() {
  refuse("cluster", {6, 32, 0, 3}, count);
  refuse("cluster in two dimensions", {dim3(4, 6), 32, 0, dim3(2, 3)}, count);
  refuse("cluster that does not divide", {dim3(4, 6), 32, 0, dim3(2, 4)}, count);
  refuse("cluster without blocks", {6, 32, 0, dim3(2, 0)}, count);
  refuse("cluster too large", {16, 32, 0, 16}, count);
  emulation::device.capability = 80;
  refuse("cluster on sm_80", {6, 32, 0, 3}, count);
  refuse("no cluster on sm_80", {6, 32}, count);
  emulation::device.capability = 90;
  refuse("not in shared memory", {2, 32, 0, 2}, [] { shared_of(&counter, 1); });
  refuse("no such block", {2, 32, 16, 2}, [] {
    GENFAST_DYNAMIC_SHARED(float, asked);
    shared_of(asked, 2);
  });
  refuse("a block that has ended", {2, 32, 16, 2}, [] {  // the other one does not wait until it was read
    GENFAST_DYNAMIC_SHARED(float, asked);
    cluster_sync();
    if (cluster_rank() == 0) return;
    __syncthreads();
    shared_of(asked, 0);
  });
}

static void grids() {
  emulation::device.resident_blocks = 4;
  const auto meet = [] { grid_sync(), ++ran; };
  refuse("cooperative", {4, 32, 0, 1, true}, meet);
  refuse("more than fit", {5, 32, 0, 1, true}, meet);
  refuse("not cooperative", {4, 32}, meet);
  const auto wait_for_all = [] {
    if (threadIdx.x == 0) arrive(&counter), await(&counter, gridDim.x);
    ++ran;
  };
  refuse("team", {4, 32, 0, 1, true}, wait_for_all);
  refuse("team whose blocks need not be there", {4, 1}, wait_for_all);
  refuse("a barrier that some never reach", {1, 64}, [] {
    if (threadIdx.x == 0) await(&counter, 1);
    __syncthreads();
  });
}

static void memory() {
  for (int beyond : {0, 1}) {
    const auto writes = [beyond] {
      GENFAST_DYNAMIC_SHARED(float, asked);
      asked[threadIdx.x + beyond] = 1;
    };
    refuse(beyond ? "writes beyond what it asked for" : "writes what it asked for", {2, 32, 128}, writes);
  }
  refuse("writes before a variable", {1, 32}, [] {
    GENFAST_SHARED(float[32], declared);
    float* volatile at = declared;
    at[int(threadIdx.x) - 1] = 1;
  });
  refuse("memory of a block is not that of the one before", {2, 32, 128}, [] {
    GENFAST_DYNAMIC_SHARED(float, asked);
    ran += asked[threadIdx.x] != asked[threadIdx.x];  // NaN
    asked[threadIdx.x] = 1;
  });
}

static void asynchronous() {
  const auto copy = [](bool wait) {
    return [wait] {
      GENFAST_DYNAMIC_SHARED(float, asked);
      async_copy(asked + 4 * threadIdx.x, global + 4 * threadIdx.x);
      async_commit();
      if (wait) async_wait<0>();
      ran += asked[4 * threadIdx.x + 3] == 7;
    };
  };
  for (int i = 0; i < 256; ++i) const_cast<float*>(global)[i] = 7;
  refuse("copied and waited for", {1, 32, 512}, copy(true));
  refuse("copied and not waited for", {1, 32, 512}, copy(false));
  refuse("copied to nowhere", {1, 32, 512 - 16}, copy(true));
  refuse("copied askew", {1, 1, 512}, [] {
    GENFAST_DYNAMIC_SHARED(float, asked);
    async_copy(asked, global + 1);
  });
  refuse("product by half a warp", {1, 16}, [] {
    float sums[4] = {};
    mma_bf16(sums, {1, 2, 3, 4}, {1, 2});
  });
}

// Of what lies beside shared memory a GPU says nothing, and only AddressSanitizer does here.
static void read_beyond() {
  refuse("reads beyond what it asked for", {1, 32, 128}, [] {
    GENFAST_DYNAMIC_SHARED(float, asked);
    ran += asked[threadIdx.x + 1] == 0;
  });
}

int main(int arguments, char**) {
  if (arguments > 1)
    read_beyond();
  else
    launches(), amounts_of_shared_memory(), clusters(), grids(), memory(), asynchronous();
}
