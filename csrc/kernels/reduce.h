#pragma once
// The CPU driver of reductions: one number a row, summed in the order of math/sum.h.
#include "../math/sum.h"
#include "map.h"

namespace genfast::inline GENFAST_ISA {

// body.row(r)(tile) gives the values to add; body.finish(r, sum) takes the sum.  Work: rows.
template <class Body>
void reduce(const Shape& shape, int64_t first, int64_t last, const Body& body) {
  for (int64_t row = first; row < last; ++row) {
    const auto apply = body.row(row);
    float sum = 0.0f;
    for (int64_t chunk = 0; chunk * kChunk < shape.features; ++chunk) {
      alignas(64) float accumulators[kAccumulators] = {};
      for (int64_t unit = chunk * (kChunk / kUnit); unit < (chunk + 1) * (kChunk / kUnit); ++unit)
        tiles_of_unit(shape, row, unit, [&](const auto& tile) {
          const Tile::Values values = apply(tile);
          float* to = accumulators + tile.first % kAccumulators;
          for (int k = 0; k < 4; ++k) store_lane(to + k * kLanes, load_lane(to + k * kLanes) + values.v[k]);
        });
      float groups[32];
      for (int i = 0; i < 32; ++i) groups[i] = sum_of_eight(accumulators + 8 * i);
      for (int distance = 16; distance > 0; distance /= 2)
        for (int i = 0; i < distance; ++i) groups[i] += groups[i + distance];
      sum += groups[0];
    }
    body.finish(row, sum);
  }
}

}  // namespace genfast::inline GENFAST_ISA
