#pragma once
// What float32 sums can say for certain about a distance.
//
// A sum of n float32 products in any order, rounded to nearest or not, subnormals kept or flushed, is off by at most
// g / (1 - g) times the sum of their magnitudes, g = 2 n 2^-24 (Higham 2002, Accuracy and Stability of Numerical
// Algorithms, section 3.1), and by 2^-126 for each result that was flushed.  Tensor cores add four products or more to
// a sum at a time, all cut to the last place of the largest: 3 n 2^-24 at most.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

constexpr double kFloatSlack = 0x1p-22;  // more than a conversion to float32 rounds

// The relative error of such sums, those of squares and the last few operations included.
GENFAST_HD double relative_error(int64_t features) {
  const double g = (4.0 * double(features) + 64.0) * 0x1p-24;
  return g < 0.5 ? g / (1.0 - g) : double(INFINITY);
}
// More than twice that of a squared distance in float64.
GENFAST_HD double exact_error(int64_t features) { return (double(features) + 64.0) * 0x1p-52; }

// A rounded point: |b|^2 as float32 sums have it, and a bound of |v - b|.
struct Rounded {
  float square, error;
};

// Below `outside` a pair is surely farther apart than a radius, from `inside` on surely not: bounds of closeness.
struct Limits {
  float outside, inside;
};

// Of sums of products of rounded points b = round(v), v = scale x - center: closeness = b_i.b_j - |b_j|^2 / 2, so that
// |b_i - b_j|^2 = |b_i|^2 - 2 closeness.  With error_i >= |v_i - b_i| the triangle inequality gives
//
//     | |v_i - v_j| - |b_i - b_j| | <= error_i + error_j.
class Margin {
 public:
  // scale: a power of two that brings the largest |x| or |y| into [2^38, 2^39), so that nothing overflows.
  GENFAST_HD Margin(int64_t features, double scale)
      : scale_(scale),
        relative_(relative_error(features)),
        absolute_((double(features) + 1.0) * 0x1p-110),
        exact_(exact_error(features)) {}

  // From the float32 sums of b^2 and (v - b)^2; v itself is rounded once.
  GENFAST_HD Rounded rounded(float square, float error) const {
    const double of_b = sqrt(double(error) * (1.0 + relative_) + absolute_);
    const double of_v = 0x1p-23 * sqrt(double(square) * (1.0 + relative_) + absolute_);
    return {square, float((of_b + of_v) * (1.0 + kFloatSlack))};
  }

  // Of |b_i|^2 - 2 closeness.
  GENFAST_HD double rounding(double square_i, double square_j) const {
    return relative_ * (square_i + square_j) + absolute_;
  }

  // A radius that, after scaling, surely holds all whose float64 squared distance is at most `squared`.
  GENFAST_HD double reach(double squared) const { return squared < 0.0 ? -1.0 : sqrt(squared) * scale_ * (1 + exact_); }

  // Of the ball of radius `reach` around point i: bounds of closeness for points j with at most these errors.
  GENFAST_HD Limits limits(double reach, double square, double errors, double rounding) const {
    if (reach < 0.0) return {INFINITY, INFINITY};
    const double most = reach + errors, least = reach * (1.0 - 3.0 * exact_) - errors;
    const double outside = 0.5 * (square - rounding - most * most * (1.0 + kFloatSlack));
    const double inside = 0.5 * (square + rounding - least * least * (1.0 - kFloatSlack));
    return {float(outside), least > 0.0 ? float(inside) : INFINITY};
  }

  // A reach, after scaling, that surely holds a pair of this closeness.
  GENFAST_HD double reach_of(double closeness, double square, double errors, double rounding) const {
    const double squared = square - 2.0 * closeness + rounding;
    return (sqrt(squared > 0.0 ? squared : 0.0) + errors) * (1.0 + 4.0 * exact_) * (1.0 + kFloatSlack);
  }

 protected:
  double scale_, relative_, absolute_, exact_;
};

}  // namespace genfast::inline GENFAST_ISA
