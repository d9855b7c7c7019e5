#include "device.h"
#include "launch.cuh"

#if defined(GENFAST_EMULATE)
#include <cstring>

namespace genfast {

size_t shared_memory() { return emulation::device.shared_memory; }
void cuda::set_shared_memory(size_t bytes) { emulation::device.shared_memory = bytes; }
const char* cuda::copy(void* to, const void* from, size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
  return nullptr;
}
const char* zero(void* to, size_t bytes, Stream) {
  std::memset(to, 0, bytes);
  return nullptr;
}
int64_t resident_blocks(const void*, int, size_t) { return emulation::device.resident_blocks; }

}  // namespace genfast
#else
#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>

namespace genfast::cuda {

static __global__ void probe_kernel() {}

// The first call on a device asks the driver whether there is machine code for it, or PTX to make some of.
const char* unsupported() {
  struct Answer {
    std::once_flag asked;
    char words[32] = "";
  };
  static std::array<Answer, 64> answers;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= int(answers.size())) return nullptr;
  Answer& answer = answers[device];
  std::call_once(answer.asked, [&] {
    cudaFuncAttributes attributes;
    if (cudaFuncGetAttributes(&attributes, probe_kernel) == cudaSuccess) return;
    cudaGetLastError();  // which is told here, and not by the next launch
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    std::snprintf(answer.words, sizeof answer.words, "no kernels for sm_%d%d", major, minor);
  });
  return answer.words[0] ? answer.words : nullptr;
}

const char* copy(void* to, const void* from, size_t bytes, Stream stream) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  return error == cudaSuccess ? launch_error() : cudaGetErrorString(error);
}

}  // namespace genfast::cuda

namespace genfast {

size_t shared_memory() {
  constexpr int least = 48 << 10;
  static std::array<std::atomic<int>, 64> answers;  // 0: not asked yet
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= int(answers.size())) return least;
  if (const int known = answers[device]) return known;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess)
    cudaGetLastError();  // which is told here, and not by the next launch
  answers[device] = bytes > least ? bytes : least;
  return answers[device];
}

// Beyond 48 KiB a kernel must say so.  It says the most that the device has, always: other threads may launch it too.
void allow_shared(const void* kernel) {
  cudaFuncAttributes of;
  if (cudaFuncGetAttributes(&of, kernel) != cudaSuccess) return;
  const int most = int(shared_memory() - of.sharedSizeBytes);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
}

const char* zero(void* to, size_t bytes, Stream stream) {
  const cudaError_t error = cudaMemsetAsync(to, 0, bytes, stream);
  return error == cudaSuccess ? launch_error() : cudaGetErrorString(error);
}

int64_t resident_blocks(const void* kernel, int threads, size_t shared_bytes) {
  int device = 0, multiprocessors = 1, blocks = 1;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes) != cudaSuccess)
    cudaGetLastError();  // which is told here, and not by the next launch
  return int64_t(multiprocessors) * blocks;
}

}  // namespace genfast
#endif
