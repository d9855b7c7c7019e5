#pragma once
// The CUDA driver of pairs: a block of 16 x 16 threads sums over the dimensions of 64 x 64 pairs, 4 x 4 a thread.
// Thread (x, y) has the points 4 y to 4 y + 3 of the first set and 4 x to 4 x + 3 of the second.
#include "../math/lane.h"
#include "launch.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr int kSide = 64, kAcross = 16, kEach = 4;
constexpr int kThreads = kAcross * kAcross;
constexpr int kStage = 32;  // dimensions in shared memory at a time

struct alignas(16) Four {
  float v[4];
};

struct Stage {
  alignas(16) float x[kStage][kSide + 4];  // 4 more, so that neighbouring dimensions lie in other banks
  alignas(16) float y[kStage][kSide + 4];
};

__device__ inline int thread_of_block() { return int(threadIdx.y * kAcross + threadIdx.x); }

// Dimensions [from, to) of 64 points, turned around; what is not there is zero.
template <bool vector>
__device__ inline void load_points(float (&stage)[kStage][kSide + 4], const float* points, int64_t count,
                                   int64_t features, int64_t first, int64_t from, int64_t to) {
  constexpr int quads = kStage / 4;
  GENFAST_UNROLL
  for (int step = 0; step < kSide * quads / kThreads; ++step) {
    const int e = thread_of_block() + step * kThreads, point = e / quads, d = e % quads * 4;
    const float* at = points + (first + point) * features + from + d;
    Four four{};
    if (first + point < count) {
      if (vector) {
        if (from + d < to) four = *reinterpret_cast<const Four*>(at);
      } else {
        GENFAST_UNROLL
        for (int i = 0; i < 4; ++i)
          if (from + d + i < to) four.v[i] = at[i];
      }
    }
    GENFAST_UNROLL
    for (int i = 0; i < 4; ++i) stage[d + i][point] = four.v[i];
  }
}

// Adds Kernel::add over dimensions [from, to), in order.
template <class Kernel, bool vector, class Args>
__device__ inline void add_pairs(const Args& p, Stage& stage, int64_t row, int64_t column, int64_t from, int64_t to,
                                 float (&sum)[kEach][kEach]) {
  for (int64_t first = from; first < to; first += kStage) {
    __syncthreads();  // the stage before has been read
    load_points<vector>(stage.x, p.x, p.n, p.features, row, first, to);
    load_points<vector>(stage.y, p.y, p.m, p.features, column, first, to);
    __syncthreads();
    GENFAST_UNROLL
    for (int d = 0; d < kStage; ++d) {
      const Four a = *reinterpret_cast<const Four*>(&stage.x[d][kEach * threadIdx.y]);
      const Four b = *reinterpret_cast<const Four*>(&stage.y[d][kEach * threadIdx.x]);
      GENFAST_UNROLL
      for (int r = 0; r < kEach; ++r) GENFAST_UNROLL
      for (int c = 0; c < kEach; ++c) sum[r][c] = Kernel::add(sum[r][c], a.v[r], b.v[c]);
    }
  }
}

inline int64_t tiles(int64_t points) { return (points + kSide - 1) / kSide; }

}  // namespace genfast::inline GENFAST_ISA
