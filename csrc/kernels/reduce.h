#pragma once
// The CPU driver of reductions: a few numbers a row, each summed in the order of math/sum.h.
#include "rows.h"

namespace genfast::inline GENFAST_ISA {

// The tree of math/sum.h, in registers.  `live`: a power of two, 16 or more; the accumulators from there on are zero.
GENFAST_HD float sum_of(float (&accumulators)[kAccumulators], int live) {
  for (int distance = live / 2; distance >= kLanes; distance /= 2)
    for (int j = 0; j < distance; j += kLanes)
      store_lane(accumulators + j, load_lane(accumulators + j) + load_lane(accumulators + j + distance));
  return sum_of_lane(load_lane(accumulators));
}

// body.row(r)(tile) gives the Terms to add; body.finish(r, sums) takes the Body::kSums sums.  Work: rows.
template <ReduceBody<FullTile> Body>
void reduce(const Shape& shape, int64_t first, int64_t last, const Body& body) {
  constexpr int sums = Body::kSums;
  for (int64_t row = first; row < last; ++row) {
    const auto apply = body.row(row);
    float sum[sums] = {};
    for (int64_t start = 0; start < shape.features; start += kChunk) {
      const int64_t end = start + kChunk < shape.features ? start + kChunk : shape.features;
      if (kLanes == 16 && end - start <= kLanes) {  // one register is the whole tree
        tile_at(shape, row, start, [&](const auto& tile) {
          const Terms<CpuTile::Values, sums> terms = apply(tile);
          for (int i = 0; i < sums; ++i) sum[i] += sum_of_lane(terms.of[i].v[0]);
        });
        continue;
      }
      int live = 16;
      while (live < kAccumulators && start + live < end) live *= 2;
      alignas(64) float accumulators[sums][kAccumulators];
      // The chunk is brought in by the order of memory, and summed a tile's worth of accumulators at a time, in
      // registers.
      if (shape.channels == 1)
        for (int64_t at = start; at + CpuTile::kSize <= end; at += CpuTile::kSize)
          apply(AheadTile{{shape, row, at, CpuTile::kSize}});
      for (int place = 0; place < live; place += CpuTile::kSize) {
        Terms<CpuTile::Values, sums> total;
        for (int i = 0; i < sums; ++i)
          for (int k = 0; k < 4; ++k) total.of[i].v[k] = all(0.0f);
        const auto add = [&](const auto& tile) {
          const Terms<CpuTile::Values, sums> terms = apply(tile);
          for (int i = 0; i < sums; ++i)
            for (int k = 0; k < 4; ++k) total.of[i].v[k] = total.of[i].v[k] + terms.of[i].v[k];
        };
        for (int64_t at = start + place; at < end; at += kAccumulators) tile_at(shape, row, at, add);
        for (int i = 0; i < sums; ++i)
          for (int k = 0; k < 4; ++k) store_lane(accumulators[i] + place + k * kLanes, total.of[i].v[k]);
      }
      for (int i = 0; i < sums; ++i) sum[i] += sum_of(accumulators[i], live);
    }
    body.finish(row, sum);
  }
}

}  // namespace genfast::inline GENFAST_ISA
