#include "kernel_sums_body.h"
#include "pairs.cuh"

namespace genfast::cuda {

static_assert(kTree == kSide && kSegment % kTree == 0);

// The tree over the 64 columns of a row: those 32 and 16 apart are one thread's, then 8 to 1 threads apart.
__device__ inline double tree(const double (&v)[kColumnsEach]) {
  double sum = (v[0] + v[2]) + (v[1] + v[3]);
  GENFAST_UNROLL
  for (int distance = kAcross / 2; distance > 0; distance /= 2) sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;
}

// 64 rows of x against one segment of y.
template <class Kernel, bool vector>
__global__ void __launch_bounds__(kBlock, 3)
    sum_segment(const __grid_constant__ KernelSumsArgs p, double* first, double* second) {
  GENFAST_SHARED(Stage, stage);
  const Kernel kernel{p.gamma, p.offset};
  const int64_t row = int64_t(blockIdx.x) * kSide, begin = int64_t(blockIdx.y) * kSegment;
  const int64_t end = begin + kSegment < p.m ? begin + kSegment : p.m;
  double total[kRowsEach][2] = {};
  for (int64_t column = begin; column < end; column += kSide) {
    double sum[kRowsEach][kColumnsEach] = {};
    add_pairs<Kernel, vector>(p, stage, row, column, sum);
    GENFAST_UNROLL
    for (int r = 0; r < kRowsEach; ++r) {
      double square[kColumnsEach];
      GENFAST_UNROLL
      for (int c = 0; c < kColumnsEach; ++c) {
        const int64_t i = row + row_of(r), j = column + column_of(c);
        sum[r][c] = j >= end || (p.exclude_self && i == j) ? 0.0 : kernel.value(sum[r][c]);
        square[c] = sum[r][c] * sum[r][c];
      }
      total[r][0] = total[r][0] + tree(sum[r]), total[r][1] = total[r][1] + tree(square);
    }
  }
  GENFAST_UNROLL
  for (int r = 0; r < kRowsEach; ++r) {
    const int64_t i = row + row_of(r);
    if (threadIdx.x == 0 && i < p.n)
      first[blockIdx.y * p.n + i] = total[r][0], second[blockIdx.y * p.n + i] = total[r][1];
  }
}

// A thread adds the segments of one row.
__global__ void __launch_bounds__(kThreads) add_segments(const __grid_constant__ KernelSumsArgs p, int64_t segments) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.n) return;
  double first = 0, second = 0;
  for (int64_t s = 0; s < segments; ++s)
    first = first + p.partial[s * p.n + i], second = second + p.partial[(segments + s) * p.n + i];
  p.first[i] = first, p.second[i] = second;
}

const char* kernel_sums(const KernelSumsArgs& p, Stream stream) {
  if (p.n == 0) return nullptr;
  const int64_t segments = kernel_segments(p.m);
  double* first = segments > 1 ? p.partial : p.first;
  double* second = segments > 1 ? p.partial + segments * p.n : p.second;
  const dim3 grid(unsigned(tiles(p.n)), unsigned(segments)), block(kAcross, kDown);
  const bool rbf = p.kernel == PairKernel::rbf;
  const auto launch = [&](auto kernel) { GENFAST_KERNEL_LAUNCH(kernel, grid, block, 0, stream, p, first, second); };
  if (aligned(p.x, p.y) && p.features % 4 == 0)
    rbf ? launch(sum_segment<Rbf, true>) : launch(sum_segment<Polynomial, true>);
  else
    rbf ? launch(sum_segment<Rbf, false>) : launch(sum_segment<Polynomial, false>);
  if (const char* error = launch_error()) return error;
  if (segments > 1)
    GENFAST_KERNEL_LAUNCH(add_segments, dim3(unsigned((p.n + kThreads - 1) / kThreads)), dim3(kThreads), 0, stream, p,
                          segments);
  return launch_error();
}

}  // namespace genfast::cuda
