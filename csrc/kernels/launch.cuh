#pragma once
// How a kernel is launched: on the GPU, or, for tests on a machine without one, fiber by fiber on the host.
#include "device.h"
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

#include <cstdint>

namespace genfast {

constexpr int kThreads = 256;  // of a block, where an op has no reason for another number
constexpr int kWarps = kThreads / 32;

#if !defined(GENFAST_EMULATE)
// Beyond 48 KiB a kernel must say so.  It says the most that the device has, always: other threads may launch it too.
template <class Kernel>
void allow_shared(Kernel kernel, size_t bytes) {
  cudaFuncAttributes of;
  if (bytes == 0 || cudaFuncGetAttributes(&of, kernel) != cudaSuccess) return;
  const int most = int(cuda::shared_memory() - of.sharedSizeBytes);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
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
