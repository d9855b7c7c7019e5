#pragma once
// What a GPU can say for certain about the distance of a pair: from its float32 sum of products of rounded points, with
// a number or two of each point, or from its float32 sum of squared differences.
#include "margin.h"

namespace genfast::inline GENFAST_ISA {

constexpr double kPairSlack = 0x1p-20;  // more than the float32 operations of one pair round

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

// The margins of one pair at a time, in float32.
class PairMargin : public Margin {
 public:
  using Margin::Margin;

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

 private:
  GENFAST_HD static float down(double v) { return float(v - fabs(v) * kFloatSlack); }
  GENFAST_HD static float up(double v) { return float(v + fabs(v) * kFloatSlack); }
};

}  // namespace genfast::inline GENFAST_ISA
