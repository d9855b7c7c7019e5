#include "launch.cuh"
#include "time_embedding_body.h"
#include "with_type.h"

namespace genfast::cuda {

constexpr int kEmbeddingThreads = 128;  // of a block

template <class T>
__global__ void __launch_bounds__(kEmbeddingThreads)
    time_embedding_kernel(const __grid_constant__ TimeEmbeddingArgs p) {
  for (int64_t i = blockIdx.x * int64_t(kEmbeddingThreads) + threadIdx.x; i < p.batch * pieces(p);
       i += int64_t(gridDim.x) * kEmbeddingThreads)
    embed<T>(p, i / pieces(p), i % pieces(p));
}

const char* time_embedding(const TimeEmbeddingArgs& p, Stream stream) {
  if (p.batch == 0) return nullptr;
  const int64_t blocks = (p.batch * pieces(p) + kEmbeddingThreads - 1) / kEmbeddingThreads;
  const dim3 grid(unsigned(blocks < 65535 ? blocks : 65535)), block(kEmbeddingThreads);
  with_type(p.dtype, [&](auto type) {
    GENFAST_KERNEL_LAUNCH((time_embedding_kernel<decltype(type)>), grid, block, 0, stream, p);
  });
  return launch_error();
}

}  // namespace genfast::cuda
