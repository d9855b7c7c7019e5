#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// Of a norm's u = slope x_hat + offset with slope = weight (1 + scale) and offset = bias (1 + scale) + shift: the
// gradients of these four from those of slope and offset, which the norm's backward has summed up for each sample.
struct AffineGradientsArgs {
  const float *slopes, *offsets;       // [batch, features], rows `stride` apart
  int64_t stride;                      //
  const float *weight, *bias, *scale;  // [features], [features], [batch, features]; null: 1, 0, 0
  int64_t scale_stride;
  float *to_weight, *to_bias;  // [features], or null
  float *to_scale, *to_shift;  // [batch, features], or null
  int64_t batch, features;
};

constexpr int64_t kFeatures = 64;  // of a piece of work
inline Work work(const AffineGradientsArgs& p) {
  return {(p.features + kFeatures - 1) / kFeatures, kGrain / (kFeatures * p.batch + 1)};
}

GENFAST_TWINS(affine_gradients, AffineGradientsArgs)

}  // namespace genfast
