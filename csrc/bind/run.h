#pragma once
// Which twin of an op runs, on which device and stream, among how many threads.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>

#include <mutex>

#include "../kernels/device.h"
#include "../kernels/shared_memory.h"
#include "../kernels/types.h"
#include "refuse.h"
#include "tensor.h"

// Weak: there in a CUDA build of torch only, so that the same binary imports on a CPU build.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace genfast {

// The work of the CPU twin is shared out among torch's own threads (torch.set_num_threads holds; a second OpenMP
// runtime in the process would spin against it).
template <class Kernel>
void on_threads(const Work& work, Kernel kernel) {
  if (work.count <= work.grain) return kernel(0, work.count);
  torch::stable::parallel_for(0, work.count, work.grain > 1 ? work.grain : 1, kernel);
}

// In an emulated build, which is for tests on machines without a GPU, CPU tensors go through the CUDA twin while
// `emulating` is set.
#if defined(GENFAST_EMULATE)
inline bool emulating = true;
inline bool runs_cuda_twin(const Tensor&) { return emulating; }
inline Stream current_stream(const Tensor&) { return nullptr; }
struct DeviceScope {  // the emulation runs one kernel at a time
  static inline std::mutex mutex;
  std::lock_guard<std::mutex> lock{mutex};
  explicit DeviceScope(const Tensor&) {}
};
#else
inline bool runs_cuda_twin(const Tensor& t) { return !t.is_cpu(); }
inline Stream current_stream(const Tensor& t) {
  void* stream = nullptr;
  GENFAST_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "genfast: this build of torch has no CUDA");
  const bool found = aoti_torch_get_current_cuda_stream(t.device().index, &stream) == AOTI_TORCH_SUCCESS;
  GENFAST_CHECK(found, "genfast: torch has no stream for ", "cuda:", t.device().index);
  return static_cast<Stream>(stream);
}
struct DeviceScope {
  torch::stable::accelerator::DeviceGuard guard;
  explicit DeviceScope(const Tensor& t) : guard(t.device().index) {
#if defined(GENFAST_CUDA)
    const char* why = cuda::unsupported();
    GENFAST_CHECK(why == nullptr, "genfast: ", why, "; built for ", GENFAST_CUDA);
#else
    refuse("genfast: no CUDA kernels were built; `genfast info` says why");
#endif
  }
};
#endif

// Bytes of shared memory that a block may have on the tensor's device.
inline size_t shared_memory_of([[maybe_unused]] const Tensor& t) {
#if defined(GENFAST_CUDA) || defined(GENFAST_EMULATE)
  const DeviceScope scope(t);
  return shared_memory();
#else
  return 0;
#endif
}

// A copy of the tensor's memory, on its device.
inline void copy_memory([[maybe_unused]] void* to, const Tensor& from) {
  const Unlocked unlocked(from.call());
  const DeviceScope scope(from);
#if defined(GENFAST_CUDA) || defined(GENFAST_EMULATE)
  const char* error = cuda::copy(to, from.data_ptr(), size_t(from.nbytes()), current_stream(from));
  GENFAST_CHECK(error == nullptr, "genfast: ", error);
#endif
}

// GENFAST_RUN(op, tensor, args) runs the twin of the tensor's device.
#define GENFAST_RUN_CPU(op, args) \
  on_threads(work(args), [&](int64_t first, int64_t last) { cpu::op(args, first, last); })
#if !defined(GENFAST_CUDA) && !defined(GENFAST_EMULATE)
#define GENFAST_RUN(op, tensor, args)                      \
  do {                                                     \
    const Unlocked unlocked((tensor).call());              \
    if (runs_cuda_twin(tensor)) (void)DeviceScope{tensor}; \
    GENFAST_RUN_CPU(op, args);                             \
  } while (false)
#else
#define GENFAST_RUN(op, tensor, args)                             \
  do {                                                            \
    const Unlocked unlocked((tensor).call());                     \
    if (runs_cuda_twin(tensor)) {                                 \
      const DeviceScope scope(tensor);                            \
      const char* error = cuda::op(args, current_stream(tensor)); \
      GENFAST_CHECK(error == nullptr, #op ": ", error);           \
    } else {                                                      \
      GENFAST_RUN_CPU(op, args);                                  \
    }                                                             \
  } while (false)
#endif

}  // namespace genfast
