#pragma once
// The squared distance of two points in float64, in the one order of every twin.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kPartial = 16;  // sums of a distance

// The end of every sum of a distance: a tree, those 8 apart first.
GENFAST_HD double sum_of(double (&partial)[kPartial]) {
  GENFAST_UNROLL
  for (int distance = kPartial / 2; distance > 0; distance /= 2) {
    GENFAST_UNROLL
    for (int k = 0; k < distance; ++k) partial[k] += partial[k + distance];
  }
  return partial[0];
}

// sum_d (x_d - y_d)^2: element d goes to partial sum d % 16, in order.
GENFAST_HD double squared_distance(const float* x, const float* y, int64_t n) {
  double partial[kPartial] = {};
  const auto add = [&](int64_t d, int k) {
    const double difference = double(x[d]) - double(y[d]);
    partial[k] += difference * difference;
  };
  int64_t first = 0;
  for (; first + kPartial <= n; first += kPartial) {
    GENFAST_UNROLL
    for (int k = 0; k < kPartial; ++k) add(first + k, k);
  }
  GENFAST_UNROLL
  for (int k = 0; k < kPartial; ++k)
    if (first + k < n) add(first + k, k);
  return sum_of(partial);
}

}  // namespace genfast::inline GENFAST_ISA
