#pragma once
#include "../math/exponential.h"
#include "kernel_sums.h"

namespace genfast::inline GENFAST_ISA {

// A pair's products, or squared differences, are summed in float32 over 256 dimensions, in order, and those sums in
// float64, in order.  The values of a row are summed over 64 columns in a tree, those 32 apart first, and those sums in
// order, a segment at a time.
constexpr int kDimensions = 256, kTree = 64;

// Each kernel: what a dimension adds, and the value of a pair.
struct Polynomial {
  double gamma, offset;
  static GENFAST_HD F add(F sum, F x, F y) { return fma_(x, y, sum); }
  GENFAST_HD double value(double sum) const {
    const double base = gamma * sum + offset;
    return base * base * base;
  }
};

struct Rbf {
  double gamma, offset;
  static GENFAST_HD F add(F sum, F x, F y) {
    const F difference = x - y;
    return fma_(difference, difference, sum);
  }
  GENFAST_HD double value(double sum) const { return exp_of_minus(gamma * sum); }
};

}  // namespace genfast::inline GENFAST_ISA
