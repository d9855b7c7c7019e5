#pragma once
// The CPU driver of reductions: a few numbers a row, each summed in the order of math/sum.h.
#include "../math/sum.h"
#include "map.h"

namespace genfast::inline GENFAST_ISA {

// body.row(r)(tile) gives the Terms to add; body.finish(r, sums) takes the Body::kSums sums.  Work: rows.
template <class Body>
void reduce(const Shape& shape, int64_t first, int64_t last, const Body& body) {
  constexpr int sums = Body::kSums;
  for (int64_t row = first; row < last; ++row) {
    const auto apply = body.row(row);
    float sum[sums] = {};
    for (int64_t chunk = 0; chunk * kChunk < shape.features; ++chunk) {
      alignas(64) float accumulators[sums][kAccumulators] = {};
      for (int64_t unit = chunk * (kChunk / kUnit); unit < (chunk + 1) * (kChunk / kUnit); ++unit)
        tiles_of_unit(shape, row, unit, [&](const auto& tile) {
          const Terms<Tile::Values, sums> terms = apply(tile);
          for (int i = 0; i < sums; ++i) {
            float* to = accumulators[i] + tile.first % kAccumulators;
            for (int k = 0; k < 4; ++k) store_lane(to + k * kLanes, load_lane(to + k * kLanes) + terms.of[i].v[k]);
          }
        });
      for (int i = 0; i < sums; ++i) sum[i] += sum_of(accumulators[i]);
    }
    body.finish(row, sum);
  }
}

}  // namespace genfast::inline GENFAST_ISA
