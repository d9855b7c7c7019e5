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
constexpr double kPairSlack = 0x1p-20;   // more than the float32 operations of one pair round

// The relative error of such sums, those of squares and the last few operations included.
GENFAST_HD double relative_error(int64_t features) {
  const double g = (4.0 * double(features) + 64.0) * 0x1p-24;
  return g < 0.5 ? g / (1.0 - g) : double(INFINITY);
}
// More than twice that of a squared distance in float64.
GENFAST_HD double exact_error(int64_t features) { return (double(features) + 64.0) * 0x1p-52; }

// Of a squared distance that was computed as a float32 sum of squared differences.
class DifferenceMargin {
 public:
  GENFAST_HD explicit DifferenceMargin(int64_t features)
      : relative_(relative_error(features) + 4.0 * exact_error(features) + kFloatSlack),
        absolute_((double(features) + 1.0) * 0x1p-126) {}
  // Above this, unless it is infinite, the float64 one surely is above `squared`.
  GENFAST_HD float farther(double squared) const {
    return squared < 0.0 ? -1.0f : float(squared * (1.0 + 2.0 * relative_) + 2.0 * absolute_);
  }
  // Up to this it surely is at most `squared`.
  GENFAST_HD float nearer(double squared) const {
    const double least = squared * (1.0 - 2.0 * relative_) - 2.0 * absolute_;
    return least > 0.0 ? float(least < 3e38 ? least : 3e38) : -1.0f;
  }

 private:
  double relative_, absolute_;
};

// A rounded point: |b|^2 as float32 sums have it, and a bound of |v - b|.
struct Rounded {
  float square, error;
};

// Below `outside` a pair is surely farther apart than a radius, from `inside` on surely not: bounds of closeness.
struct Limits {
  float outside, inside;
};

// A rounded point whose numbers were divided by `scale` before their products: what each of its pairs is compared with.
struct alignas(16) Point {
  float scale, outer, inner, error;  // half of |b|^2, at most and at least
};

// The ball of one point i, of pairs (i, j) whose float32 sum of products, scaled back, is `dot`.
struct alignas(16) Ball {
  float reach, outside, least, inside;
  GENFAST_HD bool surely_out(float dot, const Point& j) const { return fmaf(reach, j.error, dot - j.outer) < outside; }
  GENFAST_HD bool surely_in(float dot, const Point& j) const { return fmaf(-least, j.error, dot - j.inner) >= inside; }
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

  // ---- of one pair, in float32: for products by tensor cores ----
  GENFAST_HD Point point(const Rounded& b, float scale) const {
    if (!(b.error < INFINITY)) return {scale, -INFINITY, INFINITY, INFINITY};  // not finite: nothing is known of it
    const double square = b.square, error = b.error;
    return {scale, down(0.5 * (square * (1.0 - relative_) - error * error * (1.0 + kPairSlack))),
            up(0.5 * square * (1.0 + relative_)), b.error};
  }
  GENFAST_HD Ball ball(double reach, const Point& point) const {
    if (reach < 0.0) return {0.0f, INFINITY, 0.0f, INFINITY};
    if (!(point.error < INFINITY)) return {0.0f, -INFINITY, 0.0f, INFINITY};
    if (reach > 0x1p100) return {0.0f, -INFINITY, 0.0f, -INFINITY};  // all that is finite
    const double most = reach + point.error, least = reach * (1.0 - 3.0 * exact_) - point.error;
    const double outside = point.outer - 0.5 * (absolute_ + most * most * (1.0 + kPairSlack));
    const double inside = point.inner + 0.5 * (absolute_ - least * least * (1.0 - kPairSlack));
    if (!(least > 0.0)) return {up(most * (1.0 + kPairSlack)), down(outside), 0.0f, INFINITY};
    return {up(most * (1.0 + kPairSlack)), down(outside), up(least), up(inside)};
  }
  // The scaled distance is surely not less.
  GENFAST_HD float at_least(const Point& i, const Point& j, float dot) const {
    const float squared = 2.0f * ((i.outer + j.outer) - dot) - float(absolute_);
    if (!(squared > 0.0f)) return 0.0f;
    const float least = sqrtf(squared) * float(1.0 - kPairSlack) - (i.error + j.error) * float(1.0 + kPairSlack);
    return least > 0.0f ? least : 0.0f;
  }

  // A reach, after scaling, that surely holds a pair of this closeness.
  GENFAST_HD double reach_of(double closeness, double square, double errors, double rounding) const {
    const double squared = square - 2.0 * closeness + rounding;
    return (sqrt(squared > 0.0 ? squared : 0.0) + errors) * (1.0 + 4.0 * exact_) * (1.0 + kFloatSlack);
  }

 private:
  GENFAST_HD static float down(double v) { return float(v - fabs(v) * kFloatSlack); }
  GENFAST_HD static float up(double v) { return float(v + fabs(v) * kFloatSlack); }

  double scale_, relative_, absolute_, exact_;
};

}  // namespace genfast::inline GENFAST_ISA
