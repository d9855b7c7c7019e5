#pragma once
// Runs CUDA kernels on the host, for tests on machines without a GPU.  A block's threads are fibers on one OS thread:
// __syncthreads() parks a fiber until all of its block have arrived, a warp primitive until all lanes have.
// What it shows: indexing, tails, shared memory, reductions, arithmetic (bit for bit, where the arithmetic is IEEE),
// waits that nobody ends.  What it cannot show: races, speed.  Kernels are launched through GENFAST_KERNEL_LAUNCH.  No
// CUDA toolkit is needed.
#include <cmath>

#include "async.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define GENFAST_DYNAMIC_SHARED(type, name) \
  type* name = reinterpret_cast<type*>(emulation::current->block->shared.piece(nullptr, 0).begin())
#define GENFAST_SHARED(type, name)  \
  static const char name##_key = 0; \
  auto& name = emulation::shared<type>(&name##_key)
#define GENFAST_KERNEL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), emulation::launch({grid, block, shared_bytes}, [=] { kernel(__VA_ARGS__); }))

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };

namespace emulation {

// The variable of a block that a kernel declares.
template <class T>
inline T& shared(const void* key) {
  SharedMemory& memory = current->block->shared;
  const auto& piece = memory.piece(key, sizeof(T));
  if (memory.bytes() > device.shared_memory) fail("a block with more shared memory than it may have");
  return *reinterpret_cast<T*>(piece.begin());
}

}  // namespace emulation

#define threadIdx (emulation::current->thread)
#define blockIdx (emulation::current->block->index)
#define blockDim emulation::block_dim
#define gridDim emulation::grid_dim
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
