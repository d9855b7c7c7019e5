#pragma once
#include "../math/select.h"
#include "dynamic_threshold.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

GENFAST_HD float bounded(const DynamicThresholdArgs& p, float s) {
  s = s < p.bound ? p.bound : s;
  return s > p.limit ? p.limit : s;
}

struct DynamicThresholdBody {
  using Packs = PacksOf<2, 4>;
  DynamicThresholdArgs p;
  struct Row {
    const float* d;
    float* out;
    float s, scale;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto values = tile.load(d);
      for (int k = 0; k < values.kParts; ++k)
        values.v[k] = all(scale) * at_most(at_least(values.v[k], all(-s)), all(s));
      tile.store(out, values);
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {p.d, p.out, p.threshold[r], p.bound / p.threshold[r]}; }
};

}  // namespace genfast::inline GENFAST_ISA
