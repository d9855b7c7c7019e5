#pragma once
// The CUDA driver of reductions: a few numbers a row, each summed in the order of math/sum.h.
#include "../math/sum.h"
#include "map.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr unsigned kFullWarp = 0xffffffffu;

// The tree of math/sum.h over a warp: thread i holds accumulators 4 i to 4 i + 3 and, 128 further, four more.  Those
// 64, 32, 16, 8 and 4 apart lie 16, 8, 4, 2 and 1 threads away; at the first two of these steps a thread passes on half
// of what it holds and keeps the other half, so that those 2 and 1 apart come to lie 16 and 8 threads away.
__device__ inline float sum_of_warp(float (&v)[8]) {
  GENFAST_UNROLL
  for (int k = 0; k < 4; ++k) v[k] = v[k] + v[k + 4];
  GENFAST_UNROLL
  for (int step = 0; step < 2; ++step) {
    const int half = 2 >> step, distance = 16 >> step;
    const bool upper = threadIdx.x & distance;
    GENFAST_UNROLL
    for (int k = 0; k < half; ++k) {
      const float pass = upper ? v[k] : v[k + half], keep = upper ? v[k + half] : v[k];
      v[k] = keep + __shfl_xor_sync(kFullWarp, pass, distance);
    }
  }
  float sum = v[0];
  for (int distance : {4, 2, 1, 16, 8}) sum = sum + __shfl_xor_sync(kFullWarp, sum, distance);
  return sum;
}

// A warp sums the chunk of a row that begins at `start`; every thread gets the sums.  A thread takes `packs` of four at
// a time, each 128 elements behind the one before; `Where` as in tile.cuh.
template <bool vector, int packs = 2, int sums, class Where, class Apply>
__device__ inline void sum_chunk(const Where& shape, const Apply& apply, int64_t row, int64_t start,
                                 float (&to)[sums]) {
  float accumulators[sums][8] = {};
  const auto add = [&]<bool whole>() {
    for (int64_t first = start + threadIdx.x * 4; first < start + kChunk && (whole || first < shape.features);
         first += packs * kAccumulators / 2) {
      const auto terms = apply(CudaTile<vector, packs, 4, Where, whole>{shape, row, first, kAccumulators / 2});
      GENFAST_UNROLL
      for (int i = 0; i < sums; ++i) GENFAST_UNROLL
      for (int k = 0; k < 4 * packs; ++k) accumulators[i][k % 8] = accumulators[i][k % 8] + terms.of[i].v[k];
    }
  };
  if (vector && start + kChunk <= shape.features)
    add.template operator()<vector>();
  else
    add.template operator()<false>();
  GENFAST_UNROLL
  for (int i = 0; i < sums; ++i) to[i] = sum_of_warp(accumulators[i]);
}

// A warp sums one chunk of one row: partial [batch, chunks, sums].
template <class Body, bool vector, class Where>
__device__ inline void sum_chunks(const Body& body, const Where& shape, float* partial, int64_t row, int64_t chunk,
                                  int64_t chunks) {
  constexpr int sums = Body::kSums;
  if (row >= shape.batch || chunk >= chunks) return;
  float sum[sums], mine = 0.0f;
  using Packs = typename PacksFor<Body>::Type;
  constexpr int packs = vector && Packs::kWidth == 4 ? Packs::kNumber : 2;
  static_assert(packs % 2 == 0, "a thread has two packs of accumulators");
  sum_chunk<vector, packs>(shape, body.row(row), row, chunk * kChunk, sum);
  GENFAST_UNROLL
  for (int i = 0; i < sums; ++i)  // thread i keeps and stores sum i
    if (int(threadIdx.x) == i) mine = sum[i];
  if (threadIdx.x < sums) partial[(row * chunks + chunk) * sums + threadIdx.x] = mine;
}

// Contiguous, aligned rows: a block has one row, its warps different chunks.
template <class Body>
__global__ void __launch_bounds__(kThreads, PacksFor<Body>::Type::kBlocks)
    reduce_kernel(const __grid_constant__ Body body, const __grid_constant__ Shape shape, float* partial,
                  int64_t chunks) {
  const int64_t chunk = blockIdx.x * int64_t(blockDim.y) + threadIdx.y;
  sum_chunks<Body, true>(body, shape, partial, row_of_block(), chunk, chunks);
}

// All others: the warps of a block may have different rows.
template <class Body>
__global__ void __launch_bounds__(kThreads, 1)
    reduce_any_kernel(const __grid_constant__ Body body, const __grid_constant__ Layout layout, float* partial,
                      int64_t chunks) {
  const int64_t chunk = blockIdx.x * int64_t(blockDim.y) + threadIdx.y;
  sum_chunks<Body, false>(body, layout, partial, row_of_block() * blockDim.z + threadIdx.z, chunk, chunks);
}

// Adds the chunks of a row in order, a thread alone where they are few, else a warp: it brings `kHeld` of them at a
// time to shared memory, where each of its threads adds all.  Beyond the last one there are zeros, which change no sum
// that began as one.
constexpr int kHeld = 128, kFew = 8;
struct alignas(16) Four {
  float v[4];
};

template <class Body>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const __grid_constant__ Body body, int64_t batch, const float* partial, int64_t chunks) {
  constexpr int sums = Body::kSums;
  GENFAST_SHARED(Four[kWarps][sums][kHeld / 4], held);
  const int64_t row = row_of_block() * blockDim.y + threadIdx.y;
  if (row >= batch) return;
  const float* from = partial + row * chunks * sums;
  float sum[sums] = {};
  if (blockDim.x == 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) GENFAST_UNROLL
    for (int i = 0; i < sums; ++i) sum[i] = sum[i] + from[chunk * sums + i];
  } else {
    auto& mine = held[threadIdx.y];
    for (int64_t begin = 0; begin < chunks; begin += kHeld) {
      GENFAST_UNROLL
      for (int read = 0; read < kHeld; read += 32) GENFAST_UNROLL
      for (int i = 0; i < sums; ++i) {
        const int k = read + int(threadIdx.x);
        mine[i][k / 4].v[k % 4] = begin + k < chunks ? from[(begin + k) * sums + i] : 0.0f;
      }
      __syncwarp();
      const int quads = int(chunks - begin < kHeld ? (chunks - begin + 3) / 4 : kHeld / 4);
      for (int quad = 0; quad < quads; ++quad) GENFAST_UNROLL
      for (int i = 0; i < sums; ++i) {
        const Four four = mine[i][quad];
        for (float v : four.v) sum[i] = sum[i] + v;
      }
      __syncwarp();
    }
  }
  if (threadIdx.x == 0) body.finish(row, sum);
}

inline unsigned blocks_for(int64_t work, int64_t per_block) {
  const int64_t blocks = (work + per_block - 1) / per_block;
  return unsigned(blocks < (1 << 20) ? blocks : (1 << 20));
}

// partial: [batch, chunks, sums] scratch.
template <ReduceBody<CudaTile<true>> Body>
const char* reduce(const Shape& shape, bool are_aligned, const Body& body, float* partial, Stream stream) {
  if (shape.batch == 0) return nullptr;
  const int64_t chunks = chunks_per_row(shape.features);
  const int64_t across = chunks < kWarps ? chunks : kWarps;  // warps of a block that share a row
  if (chunks == 0) {
    // Samples without elements: there is nothing to sum, and no grid of 0 blocks.
  } else if (are_aligned && shape.channels == 1 && shape.features % 4 == 0 && chunks > 1) {
    Blocks at = blocks_of(32, across, (chunks + across - 1) / across, shape.batch);
    GENFAST_KERNEL_LAUNCH((reduce_kernel<Body>), at.grid, at.block, 0, stream, body, shape, partial, chunks);
  } else {
    const int64_t down = kWarps / across;
    Blocks at = blocks_of(32, across, (chunks + across - 1) / across, (shape.batch + down - 1) / down);
    at.block.z = unsigned(down);
    const Layout layout(shape, are_aligned && shape.channels == 1 && shape.features % 4 == 0);
    GENFAST_KERNEL_LAUNCH((reduce_any_kernel<Body>), at.grid, at.block, 0, stream, body, layout, partial, chunks);
  }
  if (const char* error = launch_error()) return error;
  const int64_t lanes = chunks > kFew ? 32 : 1, down = kThreads / lanes;
  const Blocks at = blocks_of(lanes, down, 1, (shape.batch + down - 1) / down);
  GENFAST_KERNEL_LAUNCH((finish_kernel<Body>), at.grid, at.block, 0, stream, body, shape.batch, partial, chunks);
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
