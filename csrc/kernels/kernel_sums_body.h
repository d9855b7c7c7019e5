#pragma once
#include "../math/exponential.h"
#include "../math/wide.h"
#include "kernel_sums.h"

namespace genfast::inline GENFAST_ISA {

// All in float64: a pair's products, or squared differences, in the order of the dimensions; the values of a row over
// 64 columns in a tree, those 32 apart first, and those sums in order, a segment at a time.
constexpr int kTree = 64;

// Each kernel: what a dimension adds, and the value of a pair.
struct Polynomial {
  double gamma, offset;
  static GENFAST_HD Doubles add(Doubles sum, Doubles x, Doubles y) { return fma_(x, y, sum); }
  GENFAST_HD double value(double sum) const {
    const double base = gamma * sum + offset;
    return base * base * base;
  }
};

struct Rbf {
  double gamma, offset;
  static GENFAST_HD Doubles add(Doubles sum, Doubles x, Doubles y) {
    const Doubles difference = x - y;
    return fma_(difference, difference, sum);
  }
  GENFAST_HD double value(double sum) const { return exp_of_minus(gamma * sum); }
};

}  // namespace genfast::inline GENFAST_ISA
