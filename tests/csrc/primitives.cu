// Each primitive against what it is defined to do, on a GPU (nvcc, with csrc/kernels/device.cu) or emulated (g++ -x c++
// -DGENFAST_EMULATE): a line a check, "name ok" or "name WRONG".
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "primitives.cuh"

using namespace genfast;

// ---- memory that both sides see ----
#if defined(GENFAST_EMULATE)
static void* shared_with_host(size_t bytes) { return std::aligned_alloc(16, (bytes + 15) / 16 * 16); }
static void synchronize() {}
#else
static void* shared_with_host(size_t bytes) {
  void* memory = nullptr;
  cudaMallocManaged(&memory, bytes);
  return memory;
}
static void synchronize() { cudaDeviceSynchronize(); }
#endif
template <class T>
static T* numbers(size_t count, T first = 0, T step = 0) {
  T* memory = static_cast<T*>(shared_with_host(count * sizeof(T)));
  for (size_t i = 0; i < count; ++i) memory[i] = first + T(i) * step;
  return memory;
}
static bool equal(const float* values, size_t count, float (*expected)(size_t)) {
  synchronize();
  for (size_t i = 0; i < count; ++i)
    if (values[i] != expected(i)) return false;
  return true;
}
static void report(const char* name, const char* error, bool right) {
  std::printf("%s %s\n", name, error ? error : right ? "ok" : "WRONG");
}

// ---- clusters ----
// Every block adds up what all blocks of its cluster were given, in a variable and in what the launch asked for.
__global__ void __launch_bounds__(64) sum_of_cluster(const float* in, float* out) {
  GENFAST_DYNAMIC_SHARED(float, asked);
  GENFAST_SHARED(float[64], declared);
  const unsigned me = blockIdx.x * 64 + threadIdx.x;
  declared[threadIdx.x] = in[me], asked[threadIdx.x] = 1000 * in[me];
  cluster_sync();
  float sum = 0;
  for (unsigned rank = 0; rank < cluster_blocks(); ++rank)
    sum += shared_of(declared, rank)[threadIdx.x] + *shared_of(asked + threadIdx.x, rank);
  out[me] = sum;
  cluster_sync();  // the others may still read from this block
}
// What a block writes into the next one's memory between arriving and waiting elsewhere.
__global__ void __launch_bounds__(32) pass_on(float* out) {
  GENFAST_SHARED(float[32], box);
  cluster_sync();
  shared_of(box, (cluster_rank() + 1) % cluster_blocks())[threadIdx.x] = float(blockIdx.x);
  cluster_arrive();
  const float own = 100.0f * float(cluster_rank());
  cluster_wait();
  out[blockIdx.x * 32 + threadIdx.x] = box[threadIdx.x] + own;
}

// ---- grids ----
// As many rounds as there are blocks: in each, every block reads what its neighbor wrote in the one before.
__global__ void __launch_bounds__(32) around(float* a, float* b) {
  const unsigned next = (blockIdx.x + 1) % gridDim.x * 32 + threadIdx.x, me = blockIdx.x * 32 + threadIdx.x;
  for (unsigned round = 0; round < gridDim.x - 1; ++round) {
    (round % 2 ? a : b)[me] = (round % 2 ? b : a)[next];
    grid_sync();
  }
}
// Teams of four blocks, each summing 4 x 32 numbers of one group after another.
__global__ void __launch_bounds__(32)
    sum_of_team(const float* in, float* part, unsigned* counts, float* out, int groups) {
  const unsigned team = blockIdx.x / 4, member = blockIdx.x % 4, teams = gridDim.x / 4;
  for (int group = int(team); group < groups; group += int(teams)) {
    float sum = in[(group * 4 + member) * 32 + threadIdx.x];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
    if (threadIdx.x == 0) {
      part[group * 4 + member] = sum;
      arrive(counts + group);
      await(counts + group, 4);
    }
    __syncwarp();
    float total = 0;
    for (int i = 0; i < 4; ++i) total += static_cast<volatile float*>(part)[group * 4 + i];
    out[(group * 4 + member) * 32 + threadIdx.x] = total;
  }
}

// ---- asynchronous copies ----
struct alignas(16) Quad {
  float v[4];
};
// A ring of two stages: one is on its way while the other is read.
__global__ void __launch_bounds__(32) through_a_ring(const Quad* in, Quad* out, int rounds) {
  GENFAST_SHARED(Quad[2][32], ring);
  const auto load = [&](int round) {
    if (round < rounds) async_copy(&ring[round % 2][threadIdx.x], in + round * 32 + threadIdx.x);
    async_commit();
  };
  load(0);
  for (int round = 0; round < rounds; ++round) {
    load(round + 1);
    async_wait<1>();
    __syncwarp();
    out[round * 32 + threadIdx.x] = ring[round % 2][31 - threadIdx.x];
    __syncwarp();
  }
}

// ---- products of matrices ----
// A row by row, B column by column: D = A B + C, of small integers, which every order of sums adds exactly.
template <bool half>
__global__ void __launch_bounds__(32) product(const uint16_t* a, const uint16_t* b, const float* c, float* d) {
  const unsigned group = threadIdx.x / 4, member = threadIdx.x % 4;
  const auto pair = [](const uint16_t* at) { return unsigned(at[0]) | unsigned(at[1]) << 16; };
  unsigned of_a[4], of_b[2];
  float sums[4];
  for (unsigned i = 0; i < 4; ++i) {
    of_a[i] = pair(a + (group + 8 * (i % 2)) * 16 + 2 * member + 8 * (i / 2));
    sums[i] = c[(group + 8 * (i / 2)) * 8 + 2 * member + i % 2];
  }
  for (unsigned i = 0; i < 2; ++i) of_b[i] = pair(b + group * 16 + 2 * member + 8 * i);
  if constexpr (half)
    mma_f16(sums, of_a, of_b);
  else
    mma_bf16(sums, of_a, of_b);
  for (unsigned i = 0; i < 4; ++i) d[(group + 8 * (i / 2)) * 8 + 2 * member + i % 2] = sums[i];
}
static float number_of_a(size_t row, size_t k) { return float(int(row * 7 + k * 3) % 13 - 6); }
static float number_of_b(size_t k, size_t column) { return float(int(k * 5 + column * 11) % 17 - 8); }
static float number_of_d(size_t i) {
  float sum = float(i);
  for (size_t k = 0; k < 16; ++k) sum += number_of_a(i / 8, k) * number_of_b(k, i % 8);
  return sum;
}
static uint16_t narrow_integer(float value, bool half) {
  const unsigned bits = std::bit_cast<unsigned>(value);
  if (!half) return uint16_t(bits >> 16);
  return value == 0 ? 0 : uint16_t((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 1023));
}
static bool product_is_right(bool half, const char*& error) {
  uint16_t *a = numbers<uint16_t>(256), *b = numbers<uint16_t>(128);
  float *c = numbers<float>(128, 0, 1), *d = numbers<float>(128);
  for (size_t i = 0; i < 256; ++i) a[i] = narrow_integer(number_of_a(i / 16, i % 16), half);
  for (size_t i = 0; i < 128; ++i) b[i] = narrow_integer(number_of_b(i % 16, i / 16), half);
  error = launch(half ? product<true> : product<false>, {1, 32}, nullptr, a, b, c, d);
  return equal(d, 128, number_of_d);
}

int main() {
  const char* error = nullptr;
  const float* in = numbers<float>(1024, 0, 1);
  float *out = numbers<float>(1024), *other = numbers<float>(1024);

  error = launch(sum_of_cluster, {12, 64, 64 * sizeof(float), 4}, nullptr, in, out);
  report("cluster", error,
         equal(out, 12 * 64, [](size_t i) { return 1001.0f * float(4 * (i / 256 * 256 + i % 64) + 64 * 6); }));
  error = launch(pass_on, {6, 32, 0, 2}, nullptr, out);
  report("cluster arrives and waits", error,
         equal(out, 6 * 32, [](size_t i) { return float((i / 32) ^ 1) + 100.0f * float(i / 32 % 2); }));

  for (size_t i = 0; i < 160; ++i) out[i] = float(i);
  error = launch(around, {5, 32, 0, 1, true}, nullptr, out, other);
  report("cooperative grid", error, equal(out, 160, [](size_t i) { return float((i + 128) % 160); }));
  error = launch(sum_of_team, {8, 32, 0, 1, true}, nullptr, in, other, numbers<unsigned>(5), out, 5);
  report("team", error, equal(out, 5 * 128, [](size_t i) { return 128.0f * float(i / 128 * 128) + 64.0f * 127; }));

  Quad* quads = static_cast<Quad*>(shared_with_host(sizeof(Quad) * 96));
  error = launch(through_a_ring, {1, 32}, nullptr, reinterpret_cast<const Quad*>(in), quads, 3);
  report("asynchronous copies", error,
         equal(quads->v, 384, [](size_t i) { return float(i / 128 * 128 + (31 - i / 4 % 32) * 4 + i % 4); }));
  for (bool half : {false, true}) {
    const bool right = product_is_right(half, error);
    report(half ? "mma f16" : "mma bf16", error, right);
  }
}
