#pragma once
// The passes of group norm over channels-last maps, CUDA: a thread takes eight neighboring channels, or one, and walks
// over pixels.
#include "group_norm_act_body.h"
#include "map.cuh"

namespace genfast::inline GENFAST_ISA {

// Where a thread stands: channels from `channel` on, unit `unit` of pixels of sample `n`.  Its values are a CudaTile of
// the row (n, pixel) of a matrix [batch * pixels, channels].
template <bool vector>
struct ColumnPlace {
  static constexpr int kWide = vector ? 8 : 1;
  int64_t channel, unit, n;
};

template <class Pass, bool vector>
struct ColumnParameters {
  float of[ColumnPlace<vector>::kWide][Pass::kParameters];
  GENFAST_HD ColumnParameters(const Pass& pass, int64_t n, int64_t channel) {
    GENFAST_UNROLL
    for (int k = 0; k < ColumnPlace<vector>::kWide; ++k)
      pass.parameters(n, (channel + k) / channels_per_group(pass.p.norm), channel + k, of[k]);
  }
};

// The values of one pixel.
template <class Pass, bool vector>
struct ColumnValues {
  static constexpr int kWide = ColumnPlace<vector>::kWide;
  float of[Pass::kInputs][kWide];
  GENFAST_HD ColumnValues(const Pass& pass, const Shape& matrix, int64_t row, int64_t channel) {
    GENFAST_UNROLL
    for (int i = 0; i < Pass::kInputs; ++i) {
      if constexpr (vector) {
        const auto values = CudaTile<true>{matrix, row, channel}.load(pass.input(i));
        GENFAST_UNROLL
        for (int k = 0; k < kWide; ++k) of[i][k] = values.v[k];
      } else {
        of[i][0] = widen(pass.input(i)[row * matrix.features + channel]);
      }
    }
  }
};

// Calls visit(place) for every place of the grid's stride; x: channels, y: units of pixels and samples.
template <bool vector, class Visit>
GENFAST_HD void each_place(const Maps& maps, int64_t units, Visit visit) {
  constexpr int wide = ColumnPlace<vector>::kWide;
  const int64_t across = (maps.channels + wide - 1) / wide;
  for (int64_t down = blockIdx.y * int64_t(blockDim.y) + threadIdx.y; down < maps.batch * units;
       down += int64_t(gridDim.y) * blockDim.y)
    for (int64_t column = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; column < across;
         column += int64_t(gridDim.x) * blockDim.x)
      visit(ColumnPlace<vector>{column * wide, down % units, down / units});
}

// partial: [batch, units, 2, channels]
template <class Pass, bool vector>
__global__ void __launch_bounds__(kThreads, 1)
    sum_columns_kernel(const __grid_constant__ Pass pass, float* partial, int64_t units) {
  constexpr int wide = ColumnPlace<vector>::kWide;
  const Maps& maps = pass.p.norm.maps;
  const Shape matrix{maps.batch * maps.pixels, maps.channels, 1};
  each_place<vector>(maps, units, [&](const auto& place) {
    const ColumnParameters<Pass, vector> q(pass, place.n, place.channel);
    float sums[2][wide] = {};
    const int64_t end = (place.unit + 1) * kPixels < maps.pixels ? (place.unit + 1) * kPixels : maps.pixels;
    GENFAST_NO_UNROLL
    for (int64_t pixel = place.unit * kPixels; pixel < end; ++pixel) {
      const ColumnValues<Pass, vector> values(pass, matrix, place.n * maps.pixels + pixel, place.channel);
      GENFAST_UNROLL
      for (int k = 0; k < wide; ++k) {
        float in[Pass::kInputs], terms[2];
        for (int i = 0; i < Pass::kInputs; ++i) in[i] = values.of[i][k];
        pass.sum(in, q.of[k], terms);
        sums[0][k] = sums[0][k] + terms[0], sums[1][k] = sums[1][k] + terms[1];
      }
    }
    float* to = partial + (place.n * units + place.unit) * 2 * maps.channels + place.channel;
    GENFAST_UNROLL
    for (int i = 0; i < 2; ++i) GENFAST_UNROLL
    for (int k = 0; k < wide; ++k) to[i * maps.channels + k] = sums[i][k];
  });
}

// A thread adds the units of one sum of one channel.
static __global__ void __launch_bounds__(kThreads)
    add_units_kernel(float* sums, const float* partial, int64_t batch, int64_t units, int64_t columns) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < batch * columns;
       i += int64_t(gridDim.x) * kThreads) {
    const float* from = partial + i / columns * units * columns + i % columns;
    float sum = 0.0f;
    for (int64_t unit = 0; unit < units; ++unit) sum = sum + from[unit * columns];
    sums[i] = sum;
  }
}

constexpr int64_t kMappedPixels = 4;

template <class Pass, bool vector>
__global__ void __launch_bounds__(kThreads, 1) map_columns_kernel(const __grid_constant__ Pass pass, int64_t units) {
  constexpr int wide = ColumnPlace<vector>::kWide;
  const Maps& maps = pass.p.norm.maps;
  const Shape matrix{maps.batch * maps.pixels, maps.channels, 1};
  each_place<vector>(maps, units, [&](const auto& place) {
    const ColumnParameters<Pass, vector> q(pass, place.n, place.channel);
    const int64_t end = (place.unit + 1) * kMappedPixels < maps.pixels ? (place.unit + 1) * kMappedPixels : maps.pixels;
    GENFAST_NO_UNROLL
    for (int64_t pixel = place.unit * kMappedPixels; pixel < end; ++pixel) {
      const int64_t row = place.n * maps.pixels + pixel;
      const ColumnValues<Pass, vector> values(pass, matrix, row, place.channel);
      float out[wide];
      GENFAST_UNROLL
      for (int k = 0; k < wide; ++k) {
        float in[Pass::kInputs];
        for (int i = 0; i < Pass::kInputs; ++i) in[i] = values.of[i][k];
        out[k] = pass.map(in, q.of[k]);
      }
      if constexpr (vector) {
        typename CudaTile<true>::Values packed;
        GENFAST_UNROLL
        for (int k = 0; k < wide; ++k) packed.v[k] = out[k];
        CudaTile<true>{matrix, row, place.channel}.store(pass.output(), packed);
      } else {
        narrow(out[0], pass.output()[row * matrix.features + place.channel]);
      }
    }
  });
}

struct ColumnGrid {
  dim3 grid, block;
  ColumnGrid(int64_t across, int64_t down) {
    unsigned x = 1;
    while (x < 32 && int64_t(x) < across) x *= 2;
    block = dim3(x, kThreads / x);
    const int64_t rows = (down + block.y - 1) / block.y;
    grid = dim3(unsigned((across + x - 1) / x), unsigned(rows < 65535 ? rows : 65535));
  }
};

template <class Pass, bool vector>
const char* sum_columns(const Pass& pass, Stream stream) {
  const GroupNorm& p = pass.p.norm;
  constexpr int wide = ColumnPlace<vector>::kWide;
  const int64_t units = (p.maps.pixels + kPixels - 1) / kPixels, columns = 2 * p.maps.channels;
  const ColumnGrid at((p.maps.channels + wide - 1) / wide, p.maps.batch * units);
  GENFAST_KERNEL_LAUNCH((sum_columns_kernel<Pass, vector>), at.grid, at.block, 0, stream, pass, p.partial, units);
  if (const char* error = launch_error()) return error;
  const int64_t blocks = (p.maps.batch * columns + kThreads - 1) / kThreads;
  GENFAST_KERNEL_LAUNCH(add_units_kernel, dim3(unsigned(blocks < (1 << 20) ? blocks : (1 << 20))), dim3(kThreads), 0,
                        stream, p.sums, p.partial, p.maps.batch, units, columns);
  return launch_error();
}

template <class Pass, bool vector>
const char* map_columns(const Pass& pass, Stream stream) {
  const Maps& maps = pass.p.norm.maps;
  constexpr int wide = ColumnPlace<vector>::kWide;
  const int64_t units = (maps.pixels + kMappedPixels - 1) / kMappedPixels;
  const ColumnGrid at((maps.channels + wide - 1) / wide, maps.batch * units);
  GENFAST_KERNEL_LAUNCH((map_columns_kernel<Pass, vector>), at.grid, at.block, 0, stream, pass, units);
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
