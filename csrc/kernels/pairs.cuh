#pragma once
// The CUDA driver of pairs: a block of 16 x 16 threads sums over the dimensions of 64 x 64 pairs, 4 x 4 a thread.
// Thread (x, y) has the points 4 y to 4 y + 3 of the first set and 4 x to 4 x + 3 of the second.
#include "../math/lane.h"
#include "launch.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr int kSide = 64, kAcross = 16, kEach = 4;
static_assert(kAcross * kAcross == kThreads && kAcross * kEach == kSide);
constexpr int kStage = 32;  // dimensions in shared memory at a time

struct alignas(16) Four {
  float v[4];
};

struct Stage {
  alignas(16) float x[kStage][kSide + 4];  // 4 more, so that neighboring dimensions lie in other banks
  alignas(16) float y[kStage][kSide + 4];
};

__device__ inline int thread_of_block() { return int(threadIdx.y * kAcross + threadIdx.x); }

// Dimensions from `from` on of 64 points, turned around; what is not there is zero.
template <bool vector>
__device__ inline void load_points(float (&stage)[kStage][kSide + 4], const float* points, int64_t count,
                                   int64_t features, int64_t first, int64_t from) {
  constexpr int quads = kStage / 4;
  GENFAST_UNROLL
  for (int step = 0; step < kSide * quads / kThreads; ++step) {
    const int e = thread_of_block() + step * kThreads, point = e / quads, d = e % quads * 4;
    const float* at = points + (first + point) * features + from + d;
    Four four{};
    if (first + point < count) {
      if (vector) {
        if (from + d < features) four = *reinterpret_cast<const Four*>(at);
      } else {
        GENFAST_UNROLL
        for (int i = 0; i < 4; ++i)
          if (from + d + i < features) four.v[i] = at[i];
      }
    }
    GENFAST_UNROLL
    for (int i = 0; i < 4; ++i) stage[d + i][point] = four.v[i];
  }
}

// Adds Kernel::add over the dimensions, in order.
template <class Kernel, bool vector, class Args, class T>
__device__ inline void add_pairs(const Args& p, Stage& stage, int64_t row, int64_t column, T (&sum)[kEach][kEach]) {
  for (int64_t first = 0; first < p.features; first += kStage) {
    __syncthreads();  // the stage before has been read
    load_points<vector>(stage.x, p.x, p.n, p.features, row, first);
    load_points<vector>(stage.y, p.y, p.m, p.features, column, first);
    __syncthreads();
    GENFAST_NO_UNROLL
    for (int group = 0; group < kStage; group += 8) GENFAST_UNROLL
    for (int d = group; d < group + 8; ++d) {
      const Four a = *reinterpret_cast<const Four*>(&stage.x[d][kEach * threadIdx.y]);
      const Four b = *reinterpret_cast<const Four*>(&stage.y[d][kEach * threadIdx.x]);
      GENFAST_UNROLL
      for (int r = 0; r < kEach; ++r) GENFAST_UNROLL
      for (int c = 0; c < kEach; ++c) sum[r][c] = Kernel::add(sum[r][c], T(a.v[r]), T(b.v[c]));
    }
  }
}

inline int64_t tiles(int64_t points) { return (points + kSide - 1) / kSide; }

}  // namespace genfast::inline GENFAST_ISA
