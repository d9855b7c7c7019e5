#pragma once
#include "../math/number.h"
#include "affine_gradients.h"

namespace genfast::inline GENFAST_ISA {

// Sums over samples are taken in `kSampleParts` parts, sample n in part n % kSampleParts, each in order; then the parts
// in order.
constexpr int kSampleParts = 16;

// One part of the sums for to_weight and to_bias, over samples part, part + kSampleParts, ...; `load(row)` and
// `store(row, value)` are of some features of a row.
template <class Load, class Store>
GENFAST_HD void affine_part(const AffineGradientsArgs& p, int part, const Load& load, const Store& store,
                            Floats& to_weight, Floats& to_bias) {
  const bool products = p.to_scale && p.weight, sums = p.to_scale && p.bias;
  const Floats weight = products ? load(p.weight) : all(1.0f), bias = sums ? load(p.bias) : all(0.0f);
  to_weight = to_bias = all(0.0f);
  for (int64_t n = part; n < p.batch; n += kSampleParts) {
    const Floats slope = load(p.slopes + n * p.stride), offset = load(p.offsets + n * p.stride);
    const Floats by = p.scale ? all(1.0f) + load(p.scale + n * p.scale_stride) : all(1.0f);
    to_weight = to_weight + by * slope, to_bias = to_bias + by * offset;
    if (p.to_scale) store(p.to_scale + n * p.features, weight * slope + bias * offset);
    if (p.to_shift) store(p.to_shift + n * p.features, offset);
  }
}

}  // namespace genfast::inline GENFAST_ISA
