#pragma once
// The CUDA driver of pairs in float64: a block of 16 x 8 threads sums over the dimensions of 64 x 64 pairs, 8 x 4 a
// thread.  Thread (x, y) has the points 8 y to 8 y + 7 of the first set and x, x + 16, x + 32 and x + 48 of the second.
#include "../math/lane.h"
#include "launch.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr int kSide = 64, kAcross = 16, kDown = 8, kBlock = kAcross * kDown;
constexpr int kRowsEach = kSide / kDown, kColumnsEach = kSide / kAcross;
constexpr int kStage = 32;  // dimensions in shared memory at a time

// Widened once, when they are put there: a conversion takes as long as four products.
struct Stage {
  alignas(16) double x[kStage][kSide];
  alignas(16) double y[kStage][kSide];
};

__device__ inline int thread_of_block() { return int(threadIdx.y * kAcross + threadIdx.x); }
__device__ inline int row_of(int r) { return kRowsEach * int(threadIdx.y) + r; }
__device__ inline int column_of(int c) { return int(threadIdx.x) + kAcross * c; }

// Dimensions from `from` on of 64 points, turned around; what is not there is zero.
template <bool vector>
__device__ inline void load_points(double (&stage)[kStage][kSide], const float* points, int64_t count, int64_t features,
                                   int64_t first, int64_t from) {
  struct alignas(16) Four {
    float v[4];
  };
  const int point = thread_of_block() % kSide;  // neighbors, so that a warp stores them side by side
  const float* at = points + (first + point) * features;
  GENFAST_UNROLL
  for (int d = thread_of_block() / kSide * 4; d < kStage; d += kBlock / kSide * 4) {
    Four four{};
    if (first + point < count) {
      if (vector) {
        if (from + d < features) four = *reinterpret_cast<const Four*>(at + from + d);
      } else {
        GENFAST_UNROLL
        for (int i = 0; i < 4; ++i)
          if (from + d + i < features) four.v[i] = at[from + d + i];
      }
    }
    GENFAST_UNROLL
    for (int i = 0; i < 4; ++i) stage[d + i][point] = four.v[i];
  }
}

// Adds Kernel::add over the dimensions, in order.
template <class Kernel, bool vector, class Args>
__device__ inline void add_pairs(const Args& p, Stage& stage, int64_t row, int64_t column,
                                 double (&sum)[kRowsEach][kColumnsEach]) {
  for (int64_t first = 0; first < p.features; first += kStage) {
    __syncthreads();  // the stage before has been read
    load_points<vector>(stage.x, p.x, p.n, p.features, row, first);
    load_points<vector>(stage.y, p.y, p.m, p.features, column, first);
    __syncthreads();
    GENFAST_NO_UNROLL
    for (int group = 0; group < kStage; group += 4) GENFAST_UNROLL
    for (int d = group; d < group + 4; ++d) {
      double b[kColumnsEach];
      GENFAST_UNROLL
      for (int c = 0; c < kColumnsEach; ++c) b[c] = stage.y[d][column_of(c)];
      GENFAST_UNROLL
      for (int r = 0; r < kRowsEach; ++r) {
        const double a = stage.x[d][row_of(r)];
        GENFAST_UNROLL
        for (int c = 0; c < kColumnsEach; ++c) sum[r][c] = Kernel::add(sum[r][c], a, b[c]);
      }
    }
  }
}

inline int64_t tiles(int64_t points) { return (points + kSide - 1) / kSide; }

}  // namespace genfast::inline GENFAST_ISA
