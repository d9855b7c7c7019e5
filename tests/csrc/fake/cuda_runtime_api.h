#pragma once
// As much of CUDA's runtime as csrc/kernels/device.cu and launch.cuh call, of a device that a test makes up.
#include <cstddef>

#define __global__
#define __shared__ static

enum cudaError_t { cudaSuccess, cudaErrorInvalidValue, cudaErrorNoKernelImageForDevice };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMultiProcessorCount
};
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
};

namespace fake {

struct Device {
  int major, minor, shared_memory;  // 0: the driver does not know
  bool has_image = true;
};
inline Device devices[4];
inline int current = 0, questions = 0, allowed = 0;
inline cudaError_t error = cudaSuccess;
inline cudaError_t answer(cudaError_t with) { return with == cudaSuccess ? with : error = with; }

}  // namespace fake

inline cudaError_t cudaGetDevice(int* device) { return *device = fake::current, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  const fake::Device& of = fake::devices[device];
  if (which == cudaDevAttrMultiProcessorCount) return *value = 132, cudaSuccess;
  ++fake::questions;
  if (which == cudaDevAttrMaxSharedMemoryPerBlockOptin && of.shared_memory == 0)
    return fake::answer(cudaErrorInvalidValue);
  *value = which == cudaDevAttrComputeCapabilityMajor   ? of.major
           : which == cudaDevAttrComputeCapabilityMinor ? of.minor
                                                        : of.shared_memory;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel) {
  if (!fake::devices[fake::current].has_image) return fake::answer(cudaErrorNoKernelImageForDevice);
  return *attributes = {1000}, cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int bytes) {
  return fake::allowed = bytes, cudaSuccess;
}
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) {
  if (!fake::devices[fake::current].has_image) return fake::answer(cudaErrorNoKernelImageForDevice);
  return *blocks = 2048 / threads, cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void*, int, size_t, void*) { return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, void*) { return cudaSuccess; }
inline cudaError_t cudaGetLastError() {
  const cudaError_t last = fake::error;
  return fake::error = cudaSuccess, last;
}
inline const char* cudaGetErrorString(cudaError_t) { return "an error of the driver's"; }
