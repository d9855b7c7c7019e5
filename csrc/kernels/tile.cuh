#pragma once
// What one thread of a CUDA driver holds of a row.
#include "../math/noise.h"
#include "../math/quotient.h"
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
GENFAST_HD void store_wide(uint64_t* to, const uint64_t& word) { *to = word; }

// A batch whose samples may be channels-last.
struct Layout : Shape {
  Quotient by_pixels, by_channels;
  explicit Layout(const Shape& shape)
      : Shape(shape),
        by_pixels(shape.features / shape.channels, shape.features + kLongest),
        by_channels(shape.channels, shape.features + kLongest) {}
  static constexpr int64_t kLongest = 32;  // that a tile may reach beyond the end of a row
  GENFAST_HD int64_t offset(int64_t e) const {
    if (channels == 1) return e;
    const int64_t channel = by_pixels(e);
    return (e - channel * (features / channels)) * channels + channel;
  }
};
GENFAST_HD int64_t offset_in(const Layout& layout, int64_t e) { return layout.offset(e); }
GENFAST_HD int64_t offset_in(const Shape&, int64_t e) { return e; }

// `packs` times `width` neighboring elements of one sample, the packs `stride` elements apart: 8 values of 16 bits or
// 4 of 32, a noise counter, are one access of 16 bytes, which the threads of a warp make side by side.  `vector` says
// that rows are contiguous and aligned.
template <bool vector, int packs = 1, int width = 8, class Where = Shape>
struct CudaTile {
  static constexpr int kSize = packs * width;
  static constexpr int parts() { return kSize; }
  struct Values {
    float v[kSize];
    static constexpr int kParts = kSize;
  };
  const Where& shape;
  int64_t row, first;
  int stride = 0;

  template <class T>
  GENFAST_HD Values load(const T* base) const {
    Values values;
    const T* from = base + row * shape.features;
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      if constexpr (vector) {
        using Word = WordOf<T>;
        constexpr int wide = sizeof(Word) / sizeof(T);
        struct Pack {
          T v[wide];
        };
        // A pack beyond the end reads the first one again: no branch, and nobody stores it.
        const Word* words = reinterpret_cast<const Word*>(from + first + (has(i) ? i * stride : 0));
        GENFAST_UNROLL
        for (int j = 0; j < width / wide; ++j) {
          const Pack pack = std::bit_cast<Pack>(words[j]);
          GENFAST_UNROLL
          for (int k = 0; k < wide; ++k) values.v[i * width + j * wide + k] = widen(pack.v[k]);
        }
      } else {
        GENFAST_UNROLL
        for (int k = 0; k < width; ++k) {
          const int64_t e = first + i * stride + k;
          values.v[i * width + k] = e < shape.features ? widen(from[offset_in(shape, e)]) : 0.0f;
        }
      }
    }
    return values;
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    T* to = base + row * shape.features;
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      if constexpr (vector) {
        if (!has(i)) break;
        using Word = WordOf<T>;
        constexpr int wide = sizeof(Word) / sizeof(T);
        struct Pack {
          T v[wide];
        };
        Word* words = reinterpret_cast<Word*>(to + first + i * stride);
        GENFAST_UNROLL
        for (int j = 0; j < width / wide; ++j) {
          Pack pack;
          GENFAST_UNROLL
          for (int k = 0; k < wide; ++k) narrow(values.v[i * width + j * wide + k], pack.v[k]);
          store_wide(words + j, std::bit_cast<Word>(pack));
        }
      } else {
        GENFAST_UNROLL
        for (int k = 0; k < width; ++k) {
          const int64_t e = first + i * stride + k;
          if (e < shape.features) narrow(values.v[i * width + k], to[offset_in(shape, e)]);
        }
      }
    }
  }
  // Sets what lies beyond the end of the row to zero.
  GENFAST_HD void clear_tail(Values& values) const {
    GENFAST_UNROLL
    for (int k = 0; k < kSize; ++k)
      if (vector ? !has(k / width) : first + k / width * stride + k % width >= shape.features) values.v[k] = 0.0f;
  }
  GENFAST_HD Values normal(const NoiseRow& noise) const {
    return drawn([&](int64_t quad, float(&z)[4]) { genfast::normal(noise, quad, z); });
  }
  GENFAST_HD Values uniform(const NoiseRow& noise) const {
    return drawn([&](int64_t quad, float(&u)[4]) { genfast::uniform(noise, quad, u); });
  }
  // A term at a time, of all packs: one copy of the formulas, and several counters for each step of the loop.
  GENFAST_HD Values normal(const NoiseSum& sum) const {
    Values total{};
    GENFAST_NO_UNROLL
    for (int j = 0; j < sum.count; ++j) {
      const Values z = normal(sum.row(j));
      GENFAST_UNROLL
      for (int k = 0; k < kSize; ++k) total.v[k] = fma_(sum.weights[j], z.v[k], total.v[k]);
    }
    return total;
  }

 private:
  template <class T>
  using WordOf = std::conditional_t<(width * sizeof(T) < 16), uint64_t, uint4>;

  GENFAST_HD bool has(int i) const { return i == 0 || first + i * stride < shape.features; }
  template <class Draw>
  GENFAST_HD Values drawn(Draw draw) const {
    Values values;
    GENFAST_UNROLL
    for (int k = 0; k < kSize; k += 4) {
      float z[4];
      draw((first + k / width * stride + k % width) >> 2, z);
      GENFAST_UNROLL
      for (int j = 0; j < 4; ++j) values.v[k + j] = z[j];
    }
    return values;
  }
};

}  // namespace genfast::inline GENFAST_ISA
