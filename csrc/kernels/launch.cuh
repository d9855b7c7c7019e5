#pragma once
// How a kernel is launched: on the GPU, or, for tests on a machine without one, fiber by fiber on the host.
#if defined(GENFAST_EMULATE)
#include "../emulation/cuda_emulation.h"
#else
#include <cuda_runtime_api.h>

#include <type_traits>
#define GENFAST_SHARED(type, name) __shared__ std::type_identity_t<type> name
#define GENFAST_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define GENFAST_KERNEL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (::genfast::allow_shared(kernel, shared_bytes), kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__))
#endif

#include <cstddef>
#include <cstdint>

#include "shared_memory.h"
#include "types.h"

namespace genfast {

constexpr int kThreads = 256;  // of a block, where an op has no reason for another number
constexpr int kWarps = kThreads / 32;

// Writes zeros; null, or what went wrong.
const char* zero(void* to, size_t bytes, Stream stream);  // device.cu

// How many blocks of a kernel the current device runs at the same time.
int64_t resident_blocks(const void* kernel, int threads, size_t shared_bytes);  // device.cu
template <class Kernel>
int64_t resident_blocks(Kernel* kernel, int threads, size_t shared_bytes) {
  return resident_blocks(reinterpret_cast<const void*>(kernel), threads, shared_bytes);
}

#if !defined(GENFAST_EMULATE)
void allow_shared(const void* kernel);  // device.cu
template <class Kernel>
void allow_shared(Kernel* kernel, size_t bytes) {
  if (bytes > 0) allow_shared(reinterpret_cast<const void*>(kernel));
}
#endif

inline const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <class... Pointers>
bool aligned(const Pointers*... pointers) {
  return (((reinterpret_cast<uintptr_t>(pointers) & 15) == 0) && ...);
}

}  // namespace genfast
