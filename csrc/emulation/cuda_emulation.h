#pragma once
// Runs CUDA kernels on the host, for tests on machines without a GPU.  A block's threads are fibers on one OS thread:
// __syncthreads() parks a fiber until all of its block have arrived, a warp primitive until all lanes of its mask have.
// What it shows: indexing, tails, shared memory, reductions, arithmetic (bit for bit, where the arithmetic is IEEE).
// What it cannot show: races, speed.  Kernels are launched through GENFAST_KERNEL_LAUNCH.  No CUDA toolkit is needed.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __shared__ static
#define __launch_bounds__(...)
#define GENFAST_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::dynamic_shared.data())
#define GENFAST_KERNEL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), emulation::launch(grid, block, shared_bytes, [=] { kernel(__VA_ARGS__); }))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };

namespace emulation {

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(256 * 1024);
  dim3 thread;
  bool done = false;
  uint64_t block_waits = 0, warp_waits = 0;  // barriers reached so far
};
inline dim3 block_index, block_dim, grid_dim;
inline std::vector<Fiber> fibers;
inline Fiber* current = nullptr;
inline ucontext_t scheduler;
inline const std::function<void()>* body = nullptr;
inline std::vector<char> dynamic_shared;
inline const char* refusal = nullptr;   // why the last launch did not happen
inline size_t shared_limit = 48 << 10;  // bytes that a block may ask for
inline uint64_t exchange[2][64][32];    // [parity][warp][lane] values of warp primitives

inline unsigned linear() {
  return (current->thread.z * block_dim.y + current->thread.y) * block_dim.x + current->thread.x;
}
inline void yield() { swapcontext(&current->context, &scheduler); }
inline void entry() {
  (*body)();
  current->done = true;
}

// A fiber waits until every live fiber of its group has reached the same count.
template <class Count>
inline void wait(size_t first, size_t last, Count count) {
  const uint64_t mine = ++count(*current);
  auto arrived = [&] {
    for (size_t i = first; i < last; ++i)
      if (!fibers[i].done && count(fibers[i]) < mine) return false;
    return true;
  };
  while (!arrived()) yield();
}
inline void sync_block() {
  wait(0, fibers.size(), [](Fiber& f) -> uint64_t& { return f.block_waits; });
}
inline void sync_warp() {
  const size_t first = linear() / 32 * 32, last = std::min<size_t>(first + 32, fibers.size());
  wait(first, last, [](Fiber& f) -> uint64_t& { return f.warp_waits; });
}

template <class T>
inline T shuffle(T value, unsigned source) {
  const unsigned warp = linear() / 32, lane = linear() % 32, parity = current->warp_waits & 1;
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  exchange[parity][warp][lane] = bits;
  sync_warp();
  T out;
  std::memcpy(&out, &exchange[parity][warp][source & 31], sizeof(T));
  return out;
}

// Sets a fiber to the start of the kernel.
inline void prepare(Fiber& f) {
  f.done = false, f.block_waits = f.warp_waits = 0;
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack.data(), f.context.uc_stack.ss_size = f.stack.size();
  f.context.uc_link = &scheduler;
  makecontext(&f.context, entry, 0);
}

// What a driver refuses, or null.
inline const char* refused(dim3 grid, dim3 block, size_t shared_bytes) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "a grid without blocks";
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return "a grid of more blocks than a GPU takes";
  if (block.x == 0 || block.y == 0 || block.z == 0) return "a block without threads";
  if (size_t(block.x) * block.y * block.z > 1024 || block.z > 64) return "a block of more threads than a GPU takes";
  if (shared_bytes > shared_limit) return "a block with more shared memory than it may have";
  return nullptr;
}

inline void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& run) {
  refusal = refused(grid, block, shared_bytes);
  if (refusal) return;
  const size_t threads = size_t(block.x) * block.y * block.z;
  grid_dim = grid, block_dim = block, body = &run;
  dynamic_shared.assign(shared_bytes, char(0xAB));
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = dim3(x, y, z);
        if (fibers.size() != threads) fibers = std::vector<Fiber>(threads);
        for (size_t i = 0; i < threads; ++i) {
          Fiber& f = fibers[i];
          f.thread = dim3(i % block.x, i / block.x % block.y, i / (size_t(block.x) * block.y));
          prepare(f);
        }
        for (size_t live = threads; live > 0;) {
          live = 0;
          for (Fiber& f : fibers) {
            if (f.done) continue;
            current = &f;
            swapcontext(&scheduler, &f.context);
            live += !f.done;
          }
        }
      }
}

}  // namespace emulation

#define threadIdx (emulation::current->thread)
#define blockIdx emulation::block_index
#define blockDim emulation::block_dim
#define gridDim emulation::grid_dim
inline void __syncthreads() { emulation::sync_block(); }
inline void __syncwarp(unsigned = ~0u) { emulation::sync_warp(); }
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
  return emulation::shuffle(v, emulation::linear() % 32 ^ unsigned(mask));
}
template <class T>
T __shfl_down_sync(unsigned, T v, unsigned d, int = 32) {
  return emulation::shuffle(v, std::min(emulation::linear() % 32 + d, 31u));
}
template <class T>
T __shfl_sync(unsigned, T v, int lane, int = 32) {
  return emulation::shuffle(v, unsigned(lane));
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T atomicAdd(T* to, T value) {
  const T old = *to;
  *to = old + value;
  return old;
}
inline unsigned atomicOr(unsigned* to, unsigned value) {
  const unsigned old = *to;
  *to = old | value;
  return old;
}
inline unsigned atomicMin(unsigned* to, unsigned value) {
  const unsigned old = *to;
  *to = std::min(old, value);
  return old;
}
inline cudaError_t cudaGetLastError() { return emulation::refusal ? cudaErrorInvalidValue : cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return emulation::refusal; }
