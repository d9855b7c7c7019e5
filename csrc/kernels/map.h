#pragma once
// The CPU driver: applies an op's body to every tile of every row.
#include "../math/memory.h"
#include "../math/noise.h"
#include "body.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

// The first `count`, of any sign and size, of kLanes consecutive values of memory, those beyond being zero.
template <class T>
GENFAST_HD Floats load_part(const T* p, int count) {
  if (count >= kLanes) [[likely]]
    return load_lane(p);
  return load_first(p, count > 0 ? count : 0);
}
template <class T>
GENFAST_HD void store_part(T* p, Floats a, int count) {
  if (count >= kLanes) [[likely]]
    return store_lane(p, a);
  if (count > 0) store_first(p, a, count);
}

// Asks for `count` consecutive values of memory.
template <class T>
GENFAST_HD void prefetch(const T* p, int64_t count) {
  const char* at = reinterpret_cast<const char*>(p);
  for (size_t byte = 0; byte < count * sizeof(T); byte += 64) __builtin_prefetch(at + byte);
}

// 4 kLanes consecutive elements of one sample: the last tile of a row may have fewer.
struct CpuTile {
  static constexpr int kSize = 4 * kLanes;
  struct Values {
    Floats v[4];
    static constexpr int kParts = 4;
  };
  const Shape& shape;
  int64_t row, first;
  int count;

  template <class T>
  GENFAST_HD Values load(const T* base) const {
    base += row * shape.features;
    Values values;
    if (shape.channels == 1) [[likely]] {
      for (int k = 0; k < 4; ++k) values.v[k] = load_part(base + first + k * kLanes, count - k * kLanes);
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
    if (shape.channels == 1) [[likely]] {
      for (int k = 0; k < 4; ++k) store_part(base + first + k * kLanes, values.v[k], count - k * kLanes);
    } else {
      T buffer[kSize];
      for (int k = 0; k < 4; ++k) store_lane(buffer + k * kLanes, values.v[k]);
      walk([&](int i, int64_t offset) { base[offset] = buffer[i]; });
    }
  }
  // Sets what lies beyond the end of the row to zero.
  GENFAST_HD void clear_tail(Values& values) const {
    for (int k = count / kLanes; k < 4; ++k)
      values.v[k] = first_of(values.v[k], count > k * kLanes ? count - k * kLanes : 0);
  }
  // How many of the parts of Values hold any elements.
  GENFAST_HD int parts() const { return (count + kLanes - 1) / kLanes; }
  template <class Noise>
  GENFAST_HD Values normal(const Noise& noise) const {
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

// A whole one: no branch between a load and its use, so that what is loaded waits in memory, not in registers.
struct FullTile : CpuTile {
  template <class T>
  GENFAST_HD Values load(const T* base) const {
    Values values;
    for (int k = 0; k < 4; ++k) values.v[k] = load_lane(base + row * shape.features + first + k * kLanes);
    return values;
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    for (int k = 0; k < 4; ++k) store_lane(base + row * shape.features + first + k * kLanes, values.v[k]);
  }
  GENFAST_HD void clear_tail(Values&) const {}
  static constexpr int parts() { return Values::kParts; }
};

// A whole one whose values are only asked for: a body applied to it reads and writes nothing, and what it computes of
// the zeros it gets is dropped by the compiler.
struct AheadTile : CpuTile {
  static Values nothing() {
    Values values;
    for (int k = 0; k < 4; ++k) values.v[k] = all(0.0f);
    return values;
  }
  template <class T>
  GENFAST_HD Values load(const T* base) const {
    prefetch(base + row * shape.features + first, kSize);
    return nothing();
  }
  template <class T>
  GENFAST_HD void store(T*, const Values&) const {}
  GENFAST_HD void clear_tail(Values&) const {}
  static constexpr int parts() { return Values::kParts; }
  template <class Noise>
  GENFAST_HD Values normal(const Noise&) const {
    return nothing();
  }
};

// Calls visit with the tile of a row that starts at `first`.
template <class Visit>
GENFAST_HD void tile_at(const Shape& shape, int64_t row, int64_t first, Visit visit) {
  const int64_t left = shape.features - first;
  if (left >= CpuTile::kSize && shape.channels == 1) [[likely]]
    visit(FullTile{{shape, row, first, CpuTile::kSize}});
  else
    visit(CpuTile{shape, row, first, int(left < CpuTile::kSize ? left : CpuTile::kSize)});
}

// Applies visit(tile) to unit `unit` of a row.
template <class Visit>
GENFAST_HD void tiles_of_unit(const Shape& shape, int64_t row, int64_t unit, Visit visit) {
  for (int64_t first = unit * kUnit; first < (unit + 1) * kUnit && first < shape.features; first += CpuTile::kSize)
    tile_at(shape, row, first, visit);
}

// Channels-last: the 64 pixels of a patch lie one behind the other, all channels of each.  Their noise is made channel
// by channel, in the logical order, and put into memory order once for the whole patch.
class Patch {
 public:
  Patch(const Shape& shape) : shape_(shape), values_(new float[kUnit * shape.channels]) {}
  ~Patch() { delete[] values_; }
  Patch(const Patch&) = delete;

  void move_to(int64_t first_pixel) {
    const int64_t left = shape_.features / shape_.channels - first_pixel;
    first_ = first_pixel, pixels_ = left < kUnit ? left : kUnit, drawn_ = false;
  }
  int64_t first() const { return first_ * shape_.channels; }
  int64_t size() const { return pixels_ * shape_.channels; }

  // The noise of the patch, in memory order; a row has one.
  template <class Noise>
  const float* normal(const Noise& noise) {
    return drawn([&](int64_t quad, Floats(&z)[4]) { genfast::normal(noise, quad, z); });
  }
  const float* uniform(const NoiseRow& noise) {
    return drawn([&](int64_t quad, Floats(&u)[4]) { genfast::uniform(noise, quad, u); });
  }

 private:
  // draw(quad, values) makes the 4 kLanes elements from 4 quad on.
  template <class Draw>
  const float* drawn(Draw draw) {
    if (drawn_) return values_;
    drawn_ = true;
    for (int64_t channel = 0; channel < shape_.channels; ++channel) {
      const int64_t start = channel * (shape_.features / shape_.channels) + first_, end = start + pixels_;
      for (int64_t block = start & ~int64_t(3); block < end; block += 4 * kLanes) {
        Floats z[4];
        float buffer[4 * kLanes];
        draw(block / 4, z);
        for (int k = 0; k < 4; ++k) store_lane(buffer + k * kLanes, z[k]);
        for (int64_t e = block < start ? start : block; e < end && e < block + 4 * kLanes; ++e)
          values_[(e - start) * shape_.channels + channel] = buffer[e - block];
      }
    }
    return values_;
  }

  const Shape& shape_;
  float* values_;  // [64 pixels, channels]
  int64_t first_ = 0, pixels_ = 0;
  bool drawn_ = false;
};

// 4 kLanes consecutive values of a patch, in memory order.
struct PatchTile : CpuTile {
  Patch& patch;
  template <class Noise>
  GENFAST_HD Values normal(const Noise& noise) const {
    return of_patch(patch.normal(noise));
  }
  GENFAST_HD Values uniform(const NoiseRow& noise) const { return of_patch(patch.uniform(noise)); }

 private:
  GENFAST_HD Values of_patch(const float* values) const {
    return CpuTile{shape, 0, first - patch.first(), count}.load(values);
  }
};

// body.row(r) holds what is shared by a row; it is applied to each of its tiles.  Work: batch * units_per_row.
template <MapBody<FullTile> Body>
void map(const Shape& shape, int64_t first, int64_t last, const Body& body) {
  const int64_t units = units_per_row(shape);
  const Shape flat{shape.batch, shape.features, 1};
  Patch patch(shape);
  for (int64_t i = first; i < last;) {
    const int64_t row = i / units, end = last < (row + 1) * units ? last : (row + 1) * units;
    const auto apply = body.row(row);
    for (; i < end; ++i) {
      const int64_t unit = i - row * units;
      if (shape.channels == 1) {
        tiles_of_unit(shape, row, unit, apply);
      } else if (unit % shape.channels == 0) {
        patch.move_to(unit / shape.channels * kUnit);
        const int64_t stop = patch.first() + patch.size();
        for (int64_t at = patch.first(); at < stop; at += CpuTile::kSize)
          apply(PatchTile{{flat, row, at, int(stop - at < CpuTile::kSize ? stop - at : CpuTile::kSize)}, patch});
      }
    }
  }
}

}  // namespace genfast::inline GENFAST_ISA
