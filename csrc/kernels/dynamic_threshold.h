#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct DynamicThresholdArgs {
  float* out;        // [batch, features]: clamp(D, -s, s) bound / s
  float* threshold;  // [batch] scratch: s
  const float* d;    // [batch, features]
  double quantile;   // of |D|, in [0, 1]: s lies between `bound` and `limit`
  float bound, limit;
  Shape shape;  // at most 2^32 - 1 features
};
inline Work work(const DynamicThresholdArgs& p) { return rows_of_work(p.shape); }

GENFAST_TWINS(dynamic_threshold, DynamicThresholdArgs)

}  // namespace genfast
