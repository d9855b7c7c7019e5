#pragma once
// The CPU driver: applies an op's body to every tile of every row.
#include "../math/noise.h"
#include "../math/number.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

constexpr int64_t kUnit = 64;  // elements; what threads share out, whatever the width of a lane

inline int64_t units_per_row(const Shape& shape) { return (shape.features + kUnit - 1) / kUnit; }

// 4 kLanes consecutive elements of one sample: the last tile of a row may have fewer.
struct Tile {
  static constexpr int kSize = 4 * kLanes;
  struct Values {
    F v[4];
    static constexpr int kParts = 4;
  };
  const Shape& shape;
  int64_t row, first;
  int count;

  template <class T>
  GENFAST_HD Values load(const T* base) const {
    base += row * shape.features;
    Values values;
    if (count == kSize && shape.channels == 1) [[likely]] {
      for (int k = 0; k < 4; ++k) values.v[k] = load_lane(base + first + k * kLanes);
    } else {
      T buffer[kSize] = {};
      walk([&](int i, int64_t offset) { buffer[i] = base[offset]; });
      for (int k = 0; k < 4; ++k) values.v[k] = load_lane(buffer + k * kLanes);
    }
    return values;
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    base += row * shape.features;
    if (count == kSize && shape.channels == 1) [[likely]] {
      for (int k = 0; k < 4; ++k) store_lane(base + first + k * kLanes, values.v[k]);
    } else {
      T buffer[kSize];
      for (int k = 0; k < 4; ++k) store_lane(buffer + k * kLanes, values.v[k]);
      walk([&](int i, int64_t offset) { base[offset] = buffer[i]; });
    }
  }
  // Sets what lies beyond the end of the row to zero.
  GENFAST_HD void clear_tail(Values& values) const {
    if (count == kSize) [[likely]]
      return;
    float buffer[kSize];
    for (int k = 0; k < 4; ++k) store_lane(buffer + k * kLanes, values.v[k]);
    for (int i = count; i < kSize; ++i) buffer[i] = 0.0f;
    for (int k = 0; k < 4; ++k) values.v[k] = load_lane(buffer + k * kLanes);
  }
  GENFAST_HD Values normal(const NoiseRow& noise) const {
    Values values;
    genfast::normal(noise, first / 4, values.v);
    return values;
  }
  GENFAST_HD Values uniform(const NoiseRow& noise) const {
    Values values;
    genfast::uniform(noise, first / 4, values.v);
    return values;
  }

 private:
  template <class Visit>
  GENFAST_HD void walk(Visit visit) const {
    const int64_t pixels = shape.features / shape.channels;
    int64_t channel = first / pixels, pixel = first % pixels;
    for (int i = 0; i < count; ++i) {
      visit(i, pixel * shape.channels + channel);
      if (++pixel == pixels) pixel = 0, ++channel;
    }
  }
};

// Applies visit(tile) to unit `unit` of a row.
template <class Visit>
GENFAST_HD void tiles_of_unit(const Shape& shape, int64_t row, int64_t unit, Visit visit) {
  for (int64_t first = unit * kUnit; first < (unit + 1) * kUnit && first < shape.features; first += Tile::kSize) {
    const int64_t left = shape.features - first;
    visit(Tile{shape, row, first, int(left < Tile::kSize ? left : Tile::kSize)});
  }
}

// body.row(r) holds what is shared by a row; it is applied to each of its tiles.  Work: batch * units_per_row.
template <class Body>
void map(const Shape& shape, int64_t first, int64_t last, const Body& body) {
  const int64_t units = units_per_row(shape), pixels = shape.features / shape.channels;
  // Channels-last: all channels of 64 pixels before the next pixels, so that a cache line is used while it is there.
  const int64_t tiles = shape.channels > 1 && pixels % kUnit == 0 ? pixels / kUnit : 0;
  for (int64_t i = first; i < last;) {
    const int64_t row = i / units, end = last < (row + 1) * units ? last : (row + 1) * units;
    const auto apply = body.row(row);
    for (; i < end; ++i) {
      const int64_t k = i - row * units, unit = tiles ? k % shape.channels * tiles + k / shape.channels : k;
      tiles_of_unit(shape, row, unit, apply);
    }
  }
}

}  // namespace genfast::inline GENFAST_ISA
