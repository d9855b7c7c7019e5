#pragma once
// The CUDA driver: applies an op's body to every tile of every row.
#include "../math/noise.h"
#include "launch.cuh"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

// One 16-byte store; left alone, nvcc splits it into four on sm_80 and sm_90.
GENFAST_HD void store_wide(uint4* to, const uint4& words) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words.x), "r"(words.y), "r"(words.z),
               "r"(words.w)
               : "memory");
#else
  *to = words;
#endif
}

// Eight consecutive elements of one sample, held by one thread: two noise counters, and 16-byte accesses where
// `vector` says that rows are contiguous and aligned.
template <bool vector>
struct CudaTile {
  static constexpr int kSize = 8;
  static constexpr int parts() { return kSize; }
  struct Values {
    float v[8];
    static constexpr int kParts = 8;
  };
  const Shape& shape;
  int64_t row, first;

  template <class T>
  GENFAST_HD Values load(const T* base) const {
    Values values;
    if constexpr (vector) {
      constexpr int wide = 16 / sizeof(T);
      struct Pack {
        T v[wide];
      };
      const uint4* from = reinterpret_cast<const uint4*>(base + row * shape.features + first);
      GENFAST_UNROLL
      for (int i = 0; i < kSize / wide; ++i) {
        const Pack pack = std::bit_cast<Pack>(from[i]);
        GENFAST_UNROLL
        for (int k = 0; k < wide; ++k) values.v[i * wide + k] = widen(pack.v[k]);
      }
    } else {
      GENFAST_UNROLL
      for (int k = 0; k < kSize; ++k) values.v[k] = first + k < shape.features ? widen(base[offset(k)]) : 0.0f;
    }
    return values;
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    if constexpr (vector) {
      constexpr int wide = 16 / sizeof(T);
      struct Pack {
        T v[wide];
      };
      uint4* to = reinterpret_cast<uint4*>(base + row * shape.features + first);
      GENFAST_UNROLL
      for (int i = 0; i < kSize / wide; ++i) {
        Pack pack;
        GENFAST_UNROLL
        for (int k = 0; k < wide; ++k) narrow(values.v[i * wide + k], pack.v[k]);
        store_wide(to + i, std::bit_cast<uint4>(pack));
      }
    } else {
      GENFAST_UNROLL
      for (int k = 0; k < kSize; ++k)
        if (first + k < shape.features) narrow(values.v[k], base[offset(k)]);
    }
  }
  GENFAST_HD void clear_tail(Values& values) const {
    GENFAST_UNROLL
    for (int k = 0; k < kSize; ++k)
      if (first + k >= shape.features) values.v[k] = 0.0f;
  }
  template <class Noise>
  GENFAST_HD Values normal(const Noise& noise) const {
    Values values;
    GENFAST_UNROLL
    for (int half = 0; half < 2; ++half) {
      float z[4];
      genfast::normal(noise, first / 4 + half, z);
      for (int k = 0; k < 4; ++k) values.v[4 * half + k] = z[k];
    }
    return values;
  }
  GENFAST_HD Values uniform(const NoiseRow& noise) const {
    Values values;
    GENFAST_UNROLL
    for (int half = 0; half < 2; ++half) {
      float u[4];
      genfast::uniform(noise, first / 4 + half, u);
      for (int k = 0; k < 4; ++k) values.v[4 * half + k] = u[k];
    }
    return values;
  }

 private:
  GENFAST_HD int64_t offset(int k) const {
    const int64_t e = first + k, start = row * shape.features;
    if (shape.channels == 1) return start + e;
    const int64_t pixels = shape.features / shape.channels;
    return start + e % pixels * shape.channels + e / pixels;
  }
};

// A thread's tiles.  Channels-last: neighboring threads take neighboring channels of the same pixels.
GENFAST_HD int64_t tile_start(const Shape& shape, int64_t tile) {
  const int64_t pixels = shape.features / shape.channels;
  if (shape.channels == 1 || pixels % 8 != 0) return tile * 8;
  return tile % shape.channels * pixels + tile / shape.channels * 8;
}

// Threads along x share a row, threads along y take different ones: no division finds a thread's place.
// At least one block a multiprocessor: without a number the compiler spills a register or two to fit three.
template <class Body, bool vector>
__global__ void __launch_bounds__(kThreads, 1)
    map_kernel(const __grid_constant__ Body body, const __grid_constant__ Shape shape) {
  const int64_t tiles = (shape.features + 7) / 8;
  for (int64_t row = blockIdx.y * int64_t(blockDim.y) + threadIdx.y; row < shape.batch;
       row += int64_t(gridDim.y) * blockDim.y) {
    const auto apply = body.row(row);
    for (int64_t tile = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; tile < tiles;
         tile += int64_t(gridDim.x) * blockDim.x)
      apply(CudaTile<vector>{shape, row, tile_start(shape, tile)});
  }
}

// `are_aligned`: every pointer that the body loads from or stores to is 16-byte aligned.
template <class Body>
const char* map(const Shape& shape, bool are_aligned, const Body& body, Stream stream) {
  if (shape.batch == 0 || shape.features == 0) return nullptr;
  const int64_t tiles = (shape.features + 7) / 8;
  int across = 1;
  while (across < kThreads && across < tiles) across *= 2;
  const dim3 block(across, kThreads / across);
  const int64_t columns = (tiles + block.x - 1) / block.x, rows = (shape.batch + block.y - 1) / block.y;
  const dim3 grid(unsigned(columns < (1 << 20) ? columns : (1 << 20)), unsigned(rows < 65535 ? rows : 65535));
  if (are_aligned && shape.channels == 1 && shape.features % 8 == 0)
    GENFAST_KERNEL_LAUNCH((map_kernel<Body, true>), grid, block, 0, stream, body, shape);
  else
    GENFAST_KERNEL_LAUNCH((map_kernel<Body, false>), grid, block, 0, stream, body, shape);
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
