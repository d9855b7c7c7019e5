#pragma once
// The CUDA driver: applies an op's body to every tile of every row.
#include "packs.h"
#include "tile.cuh"

namespace genfast::inline GENFAST_ISA {

// The row of a block, or of the threads of a block that share a y.
__device__ inline int64_t row_of_block() { return blockIdx.z * int64_t(gridDim.y) + blockIdx.y; }

// Contiguous, aligned rows: a block takes a stretch of one, and goes on where the grid ends, so that what a row says of
// itself is read once for many tiles.  As the row is the block's, not the thread's, what follows from it alone (the
// keys of the noise) waits in uniform registers.
template <class Body>
__global__ void __launch_bounds__(kThreads, PacksFor<Body>::Type::kBlocks)
    map_kernel(const __grid_constant__ Body body, const __grid_constant__ Shape shape) {
  using Packs = typename PacksFor<Body>::Type;
  const int64_t row = row_of_block();
  if (row >= shape.batch) return;
  const auto apply = body.row(row);
  const int stride = blockDim.x * Packs::kWidth;
  GENFAST_NO_UNROLL
  for (int64_t first = int64_t(blockIdx.x) * (blockDim.x * Packs::kSize) + threadIdx.x * Packs::kWidth;
       first < shape.features; first += int64_t(gridDim.x) * (blockDim.x * Packs::kSize))
    apply(CudaTile<true, Packs::kNumber, Packs::kWidth>{shape, row, first, stride});
}

// All others.  Threads along y take different rows, so that a short one leaves none idle; a thread takes four elements.
// Channels-last: neighboring threads take neighboring channels of the same pixels.
template <class Body>
__global__ void __launch_bounds__(kThreads, 1)
    map_any_kernel(const __grid_constant__ Body body, const __grid_constant__ Layout layout) {
  const int64_t row = row_of_block() * blockDim.y + threadIdx.y;
  int64_t first = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
  if (row >= layout.batch || first >= layout.features) return;
  if (layout.channels > 1 && layout.pixels % 4 == 0) {
    const int64_t quad = layout.by_channels(first / 4);
    first = (first / 4 - quad * layout.channels) * layout.pixels + quad * 4;
  }
  body.row(row)(CudaTile<false, 1, 4, Layout>{layout, row, first});
}

struct Blocks {
  dim3 grid, block;
};
inline Blocks blocks_of(int64_t across, int64_t down, int64_t wide, int64_t rows) {
  constexpr int64_t most = 65535;  // along y and z
  const int64_t deep = (rows + most - 1) / most;
  return {dim3(unsigned(wide), unsigned((rows + deep - 1) / deep), unsigned(deep)),
          dim3(unsigned(across), unsigned(down))};
}
// A row of `tiles` each block, in no more blocks than keep every multiprocessor busy to the end.
inline Blocks blocks_of_rows(int64_t rows, int64_t tiles) {
  constexpr int64_t enough = 3072;
  const int64_t across = tiles < kThreads ? (tiles + 31) / 32 * 32 : kThreads, all = (tiles + across - 1) / across;
  const int64_t turns = all * rows > enough ? all * rows / enough : 1;
  return blocks_of(across, 1, (all + turns - 1) / turns, rows);
}
inline Blocks blocks_of_any(int64_t rows, int64_t tiles) {
  const int64_t across = tiles < kThreads ? tiles : kThreads, down = kThreads / across;
  return blocks_of(across, down, (tiles + across - 1) / across, (rows + down - 1) / down);
}

// `are_aligned`: every pointer that the body loads from or stores to is 16-byte aligned.  `any`: the body for rows that
// are short, not aligned or channels-last; the same, or one that is less special and compiled once for several.
template <class Body, class Any>
const char* map(const Shape& shape, bool are_aligned, const Body& body, const Any& any, Stream stream) {
  using Packs = typename PacksFor<Body>::Type;
  if (shape.batch == 0 || shape.features == 0) return nullptr;
  const bool wide = are_aligned && shape.channels == 1;
  if (wide && shape.features % Packs::kWidth == 0 && shape.features >= 16 * Packs::kSize) {
    const Blocks at = blocks_of_rows(shape.batch, (shape.features + Packs::kSize - 1) / Packs::kSize);
    GENFAST_KERNEL_LAUNCH((map_kernel<Body>), at.grid, at.block, 0, stream, body, shape);
  } else {
    const Blocks at = blocks_of_any(shape.batch, (shape.features + 3) / 4);
    GENFAST_KERNEL_LAUNCH((map_any_kernel<Any>), at.grid, at.block, 0, stream, any,
                          Layout(shape, wide && shape.features % 4 == 0));
  }
  return launch_error();
}
template <class Body>
const char* map(const Shape& shape, bool are_aligned, const Body& body, Stream stream) {
  return map(shape, are_aligned, body, body, stream);
}

}  // namespace genfast::inline GENFAST_ISA
