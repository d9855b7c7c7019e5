#pragma once
// The CUDA driver of reductions: a few numbers a row, each summed in the order of math/sum.h.
#include "../math/sum.h"
#include "map.cuh"

namespace genfast::inline GENFAST_ISA {

// The tree of math/sum.h over a warp: thread i holds accumulators 8 i to 8 i + 7.  Those 128, 64 and 32 apart lie 16, 8
// and 4 threads away; at each of these steps a thread passes on half of what it holds and keeps the other half.
__device__ inline float sum_of_warp(float (&v)[8]) {
  constexpr unsigned full_warp = 0xffffffffu;
  GENFAST_UNROLL
  for (int step = 0; step < 3; ++step) {
    const int half = 4 >> step, distance = 16 >> step;
    const bool upper = threadIdx.x & distance;
    GENFAST_UNROLL
    for (int k = 0; k < half; ++k) {
      const float pass = upper ? v[k] : v[k + half], keep = upper ? v[k + half] : v[k];
      v[k] = keep + __shfl_xor_sync(full_warp, pass, distance);
    }
  }
  float sum = v[0];
  for (int distance : {2, 1, 16, 8, 4}) sum = sum + __shfl_xor_sync(full_warp, sum, distance);
  return sum;
}

// A warp sums the chunk of a row that begins at `start`; every thread gets the sums.
template <bool vector, int sums, class Apply>
__device__ inline void sum_chunk(const Shape& shape, const Apply& apply, int64_t row, int64_t start,
                                 float (&to)[sums]) {
  float accumulators[sums][8] = {};
  for (int64_t first = start + threadIdx.x * 8; first < start + kChunk && first < shape.features;
       first += kAccumulators) {
    const auto terms = apply(CudaTile<vector>{shape, row, first});
    GENFAST_UNROLL
    for (int i = 0; i < sums; ++i) GENFAST_UNROLL
    for (int k = 0; k < 8; ++k) accumulators[i][k] = accumulators[i][k] + terms.of[i].v[k];
  }
  GENFAST_UNROLL
  for (int i = 0; i < sums; ++i) to[i] = sum_of_warp(accumulators[i]);
}

// A warp sums one chunk of one row.
template <class Body, bool vector>
__global__ void __launch_bounds__(kThreads, 1)
    reduce_kernel(const __grid_constant__ Body body, const __grid_constant__ Shape shape, float* partial,
                  int64_t chunks) {
  constexpr int sums = Body::kSums;
  for (int64_t work = blockIdx.x * int64_t(kWarps) + threadIdx.y; work < shape.batch * chunks;
       work += int64_t(gridDim.x) * kWarps) {
    float sum[sums], mine = 0.0f;
    sum_chunk<vector>(shape, body.row(work / chunks), work / chunks, work % chunks * kChunk, sum);
    GENFAST_UNROLL
    for (int i = 0; i < sums; ++i)  // thread i keeps and stores sum i
      if (int(threadIdx.x) == i) mine = sum[i];
    if (threadIdx.x < sums) partial[work * sums + threadIdx.x] = mine;
  }
}

// A thread adds the chunks of one row.
template <class Body>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const __grid_constant__ Body body, int64_t batch, const float* partial, int64_t chunks) {
  constexpr int sums = Body::kSums;
  for (int64_t row = blockIdx.x * int64_t(kThreads) + threadIdx.x; row < batch; row += int64_t(gridDim.x) * kThreads) {
    float sum[sums] = {};
    for (int64_t chunk = 0; chunk < chunks; ++chunk) GENFAST_UNROLL
    for (int i = 0; i < sums; ++i) sum[i] = sum[i] + partial[(row * chunks + chunk) * sums + i];
    body.finish(row, sum);
  }
}

inline unsigned blocks_for(int64_t work, int64_t per_block) {
  const int64_t blocks = (work + per_block - 1) / per_block;
  return unsigned(blocks < (1 << 20) ? blocks : (1 << 20));
}

// partial: [batch, chunks, sums] scratch.
template <class Body>
const char* reduce(const Shape& shape, bool are_aligned, const Body& body, float* partial, Stream stream) {
  if (shape.batch == 0) return nullptr;
  const int64_t chunks = chunks_per_row(shape.features);
  const dim3 grid(blocks_for(shape.batch * chunks, kWarps)), block(32, kWarps);
  if (chunks == 0) {
    // Samples without elements: there is nothing to sum, and no grid of 0 blocks.
  } else if (are_aligned && shape.channels == 1 && shape.features % 8 == 0) {
    GENFAST_KERNEL_LAUNCH((reduce_kernel<Body, true>), grid, block, 0, stream, body, shape, partial, chunks);
  } else {
    GENFAST_KERNEL_LAUNCH((reduce_kernel<Body, false>), grid, block, 0, stream, body, shape, partial, chunks);
  }
  if (const char* error = launch_error()) return error;
  GENFAST_KERNEL_LAUNCH((finish_kernel<Body>), dim3(blocks_for(shape.batch, kThreads)), dim3(kThreads), 0, stream, body,
                        shape.batch, partial, chunks);
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
