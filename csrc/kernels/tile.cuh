#pragma once
// What one thread of a CUDA driver holds of a row.
#include "../math/noise.h"
#include "../math/quotient.h"
#include "body.h"
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
GENFAST_HD void store_wide(uint64_t* to, const uint64_t& word) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(uint32_t(word)), "r"(uint32_t(word >> 32)) : "memory");
#else
  *to = word;
#endif
}

// `width` neighboring values, aligned, in accesses of 16 bytes, or of 8 where there are no more.
template <int width, class T>
struct Pack {
  using Word = std::conditional_t<(width * sizeof(T) < 16), uint64_t, uint4>;
  static constexpr int kEach = sizeof(Word) / sizeof(T);
  struct Part {
    T v[kEach];
  };
  static GENFAST_HD void load(const T* from, float* to) {
    GENFAST_UNROLL
    for (int i = 0; i < width; i += kEach) {
      const Part part = std::bit_cast<Part>(*reinterpret_cast<const Word*>(from + i));
      GENFAST_UNROLL
      for (int k = 0; k < kEach; ++k) to[i + k] = widen(part.v[k]);
    }
  }
  static GENFAST_HD void store(T* to, const float* from) {
    GENFAST_UNROLL
    for (int i = 0; i < width; i += kEach) {
      Part part;
      GENFAST_UNROLL
      for (int k = 0; k < kEach; ++k) narrow(from[i + k], part.v[k]);
      store_wide(reinterpret_cast<Word*>(to + i), std::bit_cast<Word>(part));
    }
  }
};

// A batch of any layout.
struct Layout : Shape {
  int64_t pixels;
  Quotient by_pixels, by_channels;
  bool wide;  // rows are contiguous, and four elements of any type aligned
  Layout(const Shape& shape, bool are_wide)
      : Shape(shape),
        pixels(shape.features / shape.channels),
        by_pixels(pixels),
        by_channels(shape.channels),
        wide(are_wide) {}
};

// Where an element of a row lies, and the ones that follow it: one division for all of them.
struct Walk {
  int64_t at;
  GENFAST_HD Walk(const Shape&, int64_t e) : at(e) {}
  GENFAST_HD void next(const Shape&) { ++at; }
};
struct LayoutWalk {
  int64_t at, pixel;
  GENFAST_HD LayoutWalk(const Layout& layout, int64_t e) {
    const int64_t channel = layout.by_pixels(e);
    pixel = e - channel * layout.pixels;
    at = pixel * layout.channels + channel;
  }
  GENFAST_HD void next(const Layout& layout) {
    at += layout.channels;
    if (++pixel == layout.pixels) pixel = 0, at += 1 - layout.features;
  }
};

// `packs` times `width` neighboring elements of one sample, the packs `stride` elements apart, so that the threads of a
// warp access memory side by side: four float32, or eight values of 16 bits, at a time.  `vector` says that rows are
// contiguous and aligned; where they are not, `Where` is a Shape of contiguous rows or a Layout.  `whole`: no pack lies
// beyond the end.
template <bool vector, int packs = 1, int width = 8, class Where = Shape, bool whole = false>
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
      float* to = values.v + i * width;
      // A pack beyond the end reads the first one again: no branch, and nobody stores it.
      if (is_wide()) {
        Pack<width, T>::load(from + first + (has(i) ? i * stride : 0), to);
      } else {
        GENFAST_UNROLL
        for (int k = 0; k < width; ++k) to[k] = 0.0f;
        each(i, [&](int k, int64_t at) { to[k] = widen(from[at]); });
      }
    }
    return values;
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    T* to = base + row * shape.features;
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      const float* from = values.v + i * width;
      if (!has(i)) break;
      if (is_wide())
        Pack<width, T>::store(to + first + i * stride, from);
      else
        each(i, [&](int k, int64_t at) { narrow(from[k], to[at]); });
    }
  }
  // Sets what lies beyond the end of the row to zero.
  GENFAST_HD void clear_tail(Values& values) const {
    GENFAST_UNROLL
    for (int k = 0; k < kSize; ++k)
      if (vector ? !has(k / width) : first + k / width * stride + k % width >= shape.features) values.v[k] = 0.0f;
  }
  GENFAST_HD Values normal(const NoiseRow& noise) const {
    return drawn([&](int64_t quad, float (&z)[4]) { genfast::normal(noise, quad, z); });
  }
  GENFAST_HD Values uniform(const NoiseRow& noise) const {
    return drawn([&](int64_t quad, float (&u)[4]) { genfast::uniform(noise, quad, u); });
  }
  // A term at a time, of all packs: several counters to work on in each turn of the loop.
  GENFAST_HD Values normal(const NoiseSum& sum) const {
    Values total{};
    sum.each([&](const NoiseRow& row, float weight) {
      const Values z = normal(row);
      GENFAST_UNROLL
      for (int k = 0; k < kSize; ++k) total.v[k] = fma_(weight, z.v[k], total.v[k]);
    });
    return total;
  }

 private:
  GENFAST_HD bool has(int i) const {
    if constexpr (whole) return true;
    constexpr int64_t enough = 1 << 30;
    const int64_t left = shape.features - first;
    return i == 0 || i * stride < int(left < enough ? left : enough);
  }
  GENFAST_HD bool is_wide() const {
    if constexpr (requires { shape.wide; })
      return shape.wide;
    else
      return vector;
  }
  // visit(k, where it lies) for the elements of a pack that there are.
  template <class Visit>
  GENFAST_HD void each(int i, Visit visit) const {
    const int64_t start = first + i * stride;
    std::conditional_t<requires(Where w) { w.by_pixels; }, LayoutWalk, Walk> walk(shape, start);
    GENFAST_UNROLL
    for (int k = 0; k < width; ++k, walk.next(shape))
      if (start + k < shape.features) visit(k, walk.at);
  }
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
