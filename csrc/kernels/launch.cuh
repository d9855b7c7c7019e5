#pragma once
// How a kernel is launched: on the GPU, or, for tests on a machine without one, fiber by fiber on the host.
#if defined(GENFAST_EMULATE)
#include "../emulation/cuda_emulation.h"
#else
#include <cuda_runtime_api.h>
#define GENFAST_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define GENFAST_KERNEL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#endif

#include <cstdint>

namespace genfast {

constexpr int kThreads = 256;  // of a block, where an op has no reason for another number
constexpr int kWarps = kThreads / 32;

inline const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <class... Pointers>
bool aligned(const Pointers*... pointers) {
  return (((reinterpret_cast<uintptr_t>(pointers) & 15) == 0) && ...);
}

}  // namespace genfast
