#pragma once
// The CUDA driver: applies an op's body to every tile of every row.
#include "packs.h"
#include "tile.cuh"

namespace genfast::inline GENFAST_ISA {

// Threads along x share a row, threads along y take different ones: no division finds a thread's place.  The packs of a
// block's threads lie side by side, and those of one thread as far apart as the block is wide.
// At least one block a multiprocessor: without a number the compiler spills a register or two to fit three.
template <class Body, bool vector>
__global__ void __launch_bounds__(kThreads, 1)
    map_kernel(const __grid_constant__ Body body, const __grid_constant__ Layout layout) {
  const int64_t row = (blockIdx.z * int64_t(gridDim.y) + blockIdx.y) * blockDim.y + threadIdx.y;
  if constexpr (vector) {
    using Packs = typename PacksFor<Body>::Type;
    constexpr int packs = Packs::kNumber, width = Packs::kWidth;
    const int64_t first = (int64_t(blockIdx.x) * (blockDim.x * packs) + threadIdx.x) * width;
    if (row >= layout.batch || first >= layout.features) return;
    body.row(row)(CudaTile<true, packs, width>{layout, row, first, int(blockDim.x) * width});
  } else {
    // Channels-last: neighboring threads take neighboring channels of the same pixels.
    int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= layout.batch || first * 4 >= layout.features) return;
    if (const int64_t pixels = layout.features / layout.channels; layout.channels > 1 && pixels % 4 == 0) {
      const int64_t quad = layout.by_channels(first);
      first = (first - quad * layout.channels) * pixels + quad * 4;
    } else {
      first *= 4;
    }
    body.row(row)(CudaTile<false, 1, 4, Layout>{layout, row, first});
  }
}

struct Blocks {
  dim3 grid, block;
};
// For `batch` rows of `tiles` each.
inline Blocks blocks_of(int64_t batch, int64_t tiles) {
  const int64_t wide = (tiles + kThreads - 1) / kThreads;  // blocks side by side
  const int64_t across = wide == 1 ? tiles : ((tiles + wide - 1) / wide + 31) / 32 * 32, down = kThreads / across;
  const int64_t rows = (batch + down - 1) / down, most = 65535;
  const int64_t deep = (rows + most - 1) / most;
  return {dim3(unsigned((tiles + across - 1) / across), unsigned((rows + deep - 1) / deep), unsigned(deep)),
          dim3(unsigned(across), unsigned(down))};
}

// `are_aligned`: every pointer that the body loads from or stores to is 16-byte aligned.
template <class Body>
const char* map(const Shape& shape, bool are_aligned, const Body& body, Stream stream) {
  using Packs = typename PacksFor<Body>::Type;
  if (shape.batch == 0 || shape.features == 0) return nullptr;
  const bool vector = are_aligned && shape.channels == 1 && shape.features % Packs::kWidth == 0;
  const int64_t each = vector ? Packs::kNumber * Packs::kWidth : 4;
  const Blocks at = blocks_of(shape.batch, (shape.features + each - 1) / each);
  if (vector)
    GENFAST_KERNEL_LAUNCH((map_kernel<Body, true>), at.grid, at.block, 0, stream, body, Layout(shape));
  else
    GENFAST_KERNEL_LAUNCH((map_kernel<Body, false>), at.grid, at.block, 0, stream, body, Layout(shape));
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
