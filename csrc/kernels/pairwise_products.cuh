#pragma once
// Sums over the features of the products of all pairs of two parts, by tensor cores, and what is done with them on the
// spot: a block of warps takes 128 points of x against 128 `across` of y, a warp 64 against 64, in registers.
#include "async.cuh"
#include "mma.cuh"
#include "pairwise_pack.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr int kStages = 3;                     // of shared memory: two are on their way while one is multiplied
constexpr int kHeld = 64, kDown = 4, kBy = 8;  // a warp's side; products of 16 x 8 in it, down and across

// sum[down][by][2 half + e]: row 16 down + 8 half + lane / 4, column 8 by + 2 (lane % 4) + e of the warp.
using Sums = float[kDown][kBy][4];
struct Place {
  int row, column;                                                      // the first of the thread
  static __device__ int row_of(int r) { return 8 * r; }                 // of its 8
  static __device__ int column_of(int c) { return c / 2 * 8 + c % 2; }  // of its 16
};
__device__ inline float sum_at(const Sums& sums, int r, int c) { return sums[r / 2][c / 2][r % 2 * 2 + c % 2]; }

template <int across>
constexpr int kStageBytes = (1 + across) * kTileQuads * 16;
template <int across>
constexpr int kProductThreads = 128 * across;

// One stage: 32 features of the block's tiles.
__device__ inline void multiply(const uint4* x, const uint4* y, int row, int column, Sums& sums) {
  const int lane = int(threadIdx.x % 32);
  GENFAST_UNROLL
  for (int half = 0; half < kUnit / 16; ++half) {
    unsigned a[kDown][4], b[kBy / 2][4];
    GENFAST_UNROLL
    for (int i = 0; i < kDown; ++i) load_matrices(a[i], x + quad_of(row + 16 * i + lane % 16, 2 * half + lane / 16));
    GENFAST_UNROLL
    for (int i = 0; i < kBy / 2; ++i)
      load_matrices(b[i], y + quad_of(column + 16 * i + lane % 8 + lane / 16 * 8, 2 * half + lane / 8 % 2));
    GENFAST_UNROLL
    for (int i = 0; i < kDown; ++i) {
      GENFAST_UNROLL
      for (int j = 0; j < kBy; ++j) {
        const unsigned both[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        mma_f16(sums[i][j], a[i], both);
      }
    }
  }
}

// after.take(place, sums) by each thread of a warp that has a pair.
template <int across, class After>
__global__ void __launch_bounds__(kProductThreads<across>, across == 1 ? 2 : 1)
    products_kernel(const __grid_constant__ After after, const uint4* x, const uint4* y, int units) {
  GENFAST_DYNAMIC_SHARED(uint4, stages);
  constexpr int quads = (1 + across) * kTileQuads, each = kTileQuads / kProductThreads<across>;
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int row = warp % 2 * kHeld, column = warp / 2 % 2 * kHeld, tile_of_y = warp / 4;
  const int64_t tile = int64_t(units) * kTileQuads;
  x += blockIdx.x * tile + thread, y += int64_t(blockIdx.y) * across * tile + thread;
  const auto load = [&](int unit) {
    if (unit < units) {
      uint4* to = stages + unit % kStages * quads + thread;
      GENFAST_UNROLL
      for (int t = 0; t <= across; ++t) {
        const uint4* from = (t == 0 ? x : y + (t - 1) * tile) + int64_t(unit) * kTileQuads;
        GENFAST_UNROLL
        for (int i = 0; i < each; ++i)
          async_copy(to + t * kTileQuads + i * kProductThreads<across>, from + i * kProductThreads<across>);
      }
    }
    async_commit();
  };
  const Place place{int(blockIdx.x) * kTile + row + lane / 4,
                    (int(blockIdx.y) * across + tile_of_y) * kTile + column + lane % 4 * 2};
  const bool busy = place.row - lane / 4 < after.x.count && place.column - lane % 4 * 2 < after.y.count;
  Sums sums = {};
  load(0), load(1);
  GENFAST_NO_UNROLL
  for (int unit = 0; unit < units; ++unit) {
    async_wait<1>();
    __syncthreads();
    load(unit + 2);
    const uint4* stage = stages + unit % kStages * quads;
    if (busy) multiply(stage, stage + (1 + tile_of_y) * kTileQuads, row, column, sums);
  }
  if (busy) after.take(place, sums);
}

template <class After>
const char* multiply_parts(const After& after, int64_t units, Stream stream) {
  const auto launch = [&](auto kernel, int across, int threads, int bytes) {
    const dim3 grid(unsigned((after.x.count + kTile - 1) / kTile),
                    unsigned((after.y.count + across * kTile - 1) / (across * kTile)));
    GENFAST_KERNEL_LAUNCH(kernel, grid, dim3(unsigned(threads)), size_t(bytes) * kStages, stream, after, after.x.tiles,
                          after.y.tiles, int(units));
    return launch_error();
  };
  if constexpr (After::kWide)  // which halves what is read of x; of the others two blocks share a multiprocessor
    if (shared_memory() >= size_t(kStageBytes<2>) * kStages)
      return launch(products_kernel<2, After>, 2, kProductThreads<2>, kStageBytes<2>);
  return launch(products_kernel<1, After>, 1, kProductThreads<1>, kStageBytes<1>);
}

}  // namespace genfast::inline GENFAST_ISA
