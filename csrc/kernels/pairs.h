#pragma once
// The CPU driver of pairs: for 6 points of one set and 64 of another, sums over their dimensions, all in registers.
// Points lie packed, [units][points], a unit being the 4 bytes that a lane takes at a time.
#include <algorithm>
#include <cstdint>
#include <new>

#include "../math/wide.h"
#include "map.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kRows = 6, kColumns = 64;

// Rows of x that a thread packs at a time, 4 MiB of Ts at most; there is room for a whole tile more.
template <class T>
int64_t packed_rows(int64_t units, int64_t rows) {
  constexpr int64_t numbers = (int64_t(4) << 20) / int64_t(sizeof(T)), most = 2052;
  return std::clamp(numbers / (units + 1), int64_t(1), std::min(most, rows)) + kRows;
}

template <class T>
struct Buffer {
  T* const data;
  explicit Buffer(int64_t size) : data(new (std::align_val_t(64)) T[size + 1]) {}
  ~Buffer() { operator delete[](data, std::align_val_t(64)); }
  Buffer(const Buffer&) = delete;
};

// A unit is one number, and what is summed are products.  The order and the fusing are free, for the sums are only
// estimates.
struct Float32 {
  static constexpr int kElements = 1;
  static GENFAST_HD Floats add(Floats sum, Floats x, Floats y) { return kLanes == 1 ? sum + x * y : fma_(x, y, sum); }
  static GENFAST_HD Floats unit(const Floats (&v)[1], Floats (&rounded)[1]) { return rounded[0] = v[0]; }
};

#if GENFAST_LANES == 16
// A unit is two bfloat16, of elements 16 apart: twice the products an instruction.
struct BFloat16Pair {
  static constexpr int kElements = 2;
  // Not the intrinsic, which only a function of its own target may call.
  static GENFAST_HD Floats add(Floats sum, Floats x, Floats y) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
  }
  static GENFAST_HD Floats unit(const Floats (&v)[2], Floats (&rounded)[2]) {
    for (int e = 0; e < 2; ++e) {
      const Uints bits = as_uint(v[e]);
      rounded[e] = as_float((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
    }
    return as_float(as_uint(rounded[0]) >> 16 | as_uint(rounded[1]));
  }
};
#endif

// How many units a point of `features` elements takes: those at the end of the last lane that hold nothing are left
// out.
template <class Number>
int64_t units_of(int64_t features) {
  constexpr int step = Number::kElements * kLanes;
  const int64_t left = features % step;
  return features / step * kLanes + (left < kLanes ? left : kLanes);
}

// Packs `count` of `width` points, the others being zero.  value(row, first, left) is a lane of a row from element
// `first` on, of which `left` are there; seen(row, v, rounded) gets each lane before and after rounding.
template <class Number, int width, class Value, class Seen>
void pack(float* to, int64_t features, int count, Value value, Seen seen) {
  const int64_t units = units_of<Number>(features);
  for (int64_t first = 0, unit = 0; unit < units; first += Number::kElements * kLanes, unit += kLanes) {
    const int used = int(units - unit < kLanes ? units - unit : kLanes);
    float* at = to + unit * width;
    for (int row = 0; row < count; ++row) {
      Floats v[Number::kElements], rounded[Number::kElements];
      for (int e = 0; e < Number::kElements; ++e) v[e] = value(row, first + e * kLanes, features - first - e * kLanes);
      float lane[kLanes];
      store_lane(lane, Number::unit(v, rounded));
      seen(row, v, rounded);
      for (int l = 0; l < used; ++l) at[l * width + row] = lane[l];
    }
    for (int l = 0; l < used; ++l)
      for (int row = count; row < width; ++row) at[l * width + row] = 0.0f;
  }
}

// to[r][c] = sum over units of x_r and y_c, in Floats or Doubles; x: [units][kRows], y: [units][kColumns].
template <class Number, class T>
void sums_of_tile(const T* x, const T* y, int64_t units, T (&to)[kRows][kColumns]) {
  using Lanes = decltype(all(T()));
  constexpr int width = sizeof(Lanes) / sizeof(T), held = kLanes == 16 ? 4 : 2;  // registers of columns
  for (int first = 0; first < kColumns; first += held * width) {
    Lanes sum[kRows][held] = {};
    for (int64_t unit = 0; unit < units; ++unit) {
      Lanes b[held];
      GENFAST_UNROLL
      for (int c = 0; c < held; ++c) b[c] = load_lane(y + unit * kColumns + first + c * width);
      GENFAST_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Lanes a = all(x[unit * kRows + r]);
        GENFAST_UNROLL
        for (int c = 0; c < held; ++c) sum[r][c] = Number::add(sum[r][c], a, b[c]);
      }
    }
    GENFAST_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GENFAST_UNROLL
      for (int c = 0; c < held; ++c) store_lane(to[r] + first + c * width, sum[r][c]);
    }
  }
}

}  // namespace genfast::inline GENFAST_ISA
