#pragma once
// The four passes, each a formula of one value under parameters of its channel: two that sum and two that map.
#include "../math/sum.h"
#include "group_norm_act.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

GENFAST_HD int64_t channels_per_group(const GroupNorm& p) { return p.per_group; }
// Of a channel; `T`: the type of the small tensors that are narrow, float where none is.
template <class T>
GENFAST_HD float at(const Small& small, int64_t n, int64_t c) {
  return with_row<T>(small, n, [&](const auto* row) { return widen(row[c]); });
}
template <class T>
GENFAST_HD float one_plus_scale(const GroupNorm& p, int64_t n, int64_t c) {
  return p.scale.data ? 1.0f + at<T>(p.scale, n, c) : 1.0f;
}
template <class T = float>
GENFAST_HD float slope_of(const GroupNorm& p, int64_t n, int64_t c) {
  const float s = one_plus_scale<T>(p, n, c);
  return p.weight.data ? at<T>(p.weight, 0, c) * s : s;
}
template <class T = float>
GENFAST_HD float offset_of(const GroupNorm& p, int64_t n, int64_t c) {
  const float scaled = p.bias.data ? at<T>(p.bias, 0, c) * one_plus_scale<T>(p, n, c) : 0.0f;
  return p.shift.data ? scaled + at<T>(p.shift, n, c) : scaled;
}
// What is subtracted before squares are summed, so that a large mean costs no digits: the mean of 16 values spread over
// the group.  It waits in p.mean for the mean to replace it.
template <class T>
GENFAST_HD void set_pivot(const GroupNorm& p, int64_t n, int64_t group) {
  constexpr int count = 16;
  const int64_t per_group = channels_per_group(p), first = group * per_group;
  const T* x = static_cast<const T*>(p.x) + n * p.maps.channels * p.maps.pixels;
  float values[count];
  for (int64_t k = 0, c = first; k < count; ++k, c = c + 1 < first + per_group ? c + 1 : first) {
    const int64_t pixel = k * p.maps.pixels / count;
    values[k] = widen(x[p.maps.last ? pixel * p.maps.channels + c : c * p.maps.pixels + pixel]);
  }
  for (int distance = count / 2; distance > 0; distance /= 2)  // in pairs: exact where all are the same
    for (int k = 0; k < distance; ++k) values[k] = values[k] + values[k + distance];
  p.mean[n * p.groups + group] = values[0] * (1.0f / count);
}

// ---- the passes ----
// What a pass reads of a value: for the gradient dL/dy or, in its place, dL/du.
struct Input {
  enum : int { x, dy, du = dy };
};
// What it knows of a channel: u = slope (x - mean) + offset, and the GroupMeans of its group.
struct Channel {
  enum : int { mean, slope, offset, plain, times };
};

template <class T>
struct MomentsPass {
  using Type = T;
  static constexpr int kInputs = Input::x + 1, kParameters = Channel::mean + 1;
  GroupNormActArgs p;
  GENFAST_HD const T* input(int) const { return static_cast<const T*>(p.norm.x); }
  GENFAST_HD void parameters(int64_t n, int64_t group, int64_t, float (&to)[kParameters]) const {
    to[Channel::mean] = p.norm.mean[n * p.norm.groups + group];
  }
  GENFAST_HD void sum(const Floats (&in)[kInputs], const Floats (&q)[kParameters], Floats (&terms)[2]) const {
    terms[0] = in[Input::x] - q[Channel::mean];
    terms[1] = terms[0] * terms[0];
  }
};

// u = slope (x - mean) + offset: what a channel is normalized and modulated by.
template <class T = float>
GENFAST_HD void line_of(const GroupNorm& p, int64_t n, int64_t group, int64_t c, float* to) {
  const int64_t at = n * p.groups + group;
  to[Channel::mean] = p.mean[at];
  to[Channel::slope] = p.rstd[at] * slope_of<T>(p, n, c);
  to[Channel::offset] = offset_of<T>(p, n, c);
}

template <class T, class Act>
struct ApplyPass {
  using Type = T;
  static constexpr int kInputs = Input::x + 1, kParameters = Channel::offset + 1;
  GroupNormActArgs p;
  Act act;
  GENFAST_HD const T* input(int) const { return static_cast<const T*>(p.norm.x); }
  GENFAST_HD T* output() const { return static_cast<T*>(p.y); }
  GENFAST_HD void parameters(int64_t n, int64_t group, int64_t c, float (&to)[kParameters]) const {
    line_of<T>(p.norm, n, group, c, to);
  }
  GENFAST_HD Floats map(const Floats (&in)[kInputs], const Floats (&q)[kParameters]) const {
    return act.value(fma_(in[Input::x] - q[Channel::mean], q[Channel::slope], q[Channel::offset]));
  }
};

// dL/du, and its product with x - mean.  `kept`: dL/du waits in dx, which is float32 then, for the second pass.
template <class T, class Act, bool kept = false>
struct SlopesPass {
  using Type = T;
  static constexpr int kInputs = Input::dy + 1, kParameters = Channel::offset + 1;
  GroupNormActBackwardArgs p;
  Act act;
  GENFAST_HD const T* input(int i) const { return static_cast<const T*>(i == Input::x ? p.norm.x : p.dy); }
  GENFAST_HD void parameters(int64_t n, int64_t group, int64_t c, float (&to)[kParameters]) const {
    line_of(p.norm, n, group, c, to);
  }
  GENFAST_HD void sum(const Floats (&in)[kInputs], const Floats (&q)[kParameters], Floats (&terms)[2]) const {
    const Floats centered = in[Input::x] - q[Channel::mean];
    terms[0] = in[Input::dy] * act.slope(fma_(centered, q[Channel::slope], q[Channel::offset]));
    terms[1] = terms[0] * centered;
  }
  GENFAST_HD T* keep() const
    requires kept
  {
    return static_cast<T*>(p.dx);
  }
};

template <class T, class Act, bool kept = false>
struct GradientPass {
  using Type = T;
  static constexpr int kInputs = Input::dy + 1, kParameters = Channel::times + 1;
  GroupNormActBackwardArgs p;
  Act act;
  GENFAST_HD const T* input(int i) const {
    return static_cast<const T*>(i == Input::x ? p.norm.x : kept ? p.dx : p.dy);
  }
  GENFAST_HD T* output() const { return static_cast<T*>(p.dx); }
  GENFAST_HD void parameters(int64_t n, int64_t group, int64_t c, float (&to)[kParameters]) const {
    line_of(p.norm, n, group, c, to);
    const int64_t at = n * p.norm.groups + group;
    to[Channel::plain] = p.means[at].plain, to[Channel::times] = p.means[at].times;
  }
  GENFAST_HD Floats map(const Floats (&in)[kInputs], const Floats (&q)[kParameters]) const {
    const Floats centered = in[Input::x] - q[Channel::mean];
    const Floats du =
        kept ? in[Input::du] : in[Input::dy] * act.slope(fma_(centered, q[Channel::slope], q[Channel::offset]));
    return fma_(q[Channel::slope], du, -fma_(centered, q[Channel::times], q[Channel::plain]));
  }
};

// ---- between them ----
// The two sums of a group, channel by channel.
GENFAST_HD void finish_group(const GroupNormActArgs& args, int64_t n, int64_t group) {
  const GroupNorm& p = args.norm;
  const int64_t per_group = channels_per_group(p), first = group * per_group;
  const float* sums = p.sums + 2 * n * p.maps.channels + first;
  float sum = 0.0f, squares = 0.0f;
  for (int64_t c = 0; c < per_group; ++c) sum = sum + sums[c], squares = squares + sums[p.maps.channels + c];
  const float each = float(1.0 / double(per_group * p.maps.pixels)), shifted = sum * each;
  const float spread = squares * each - shifted * shifted, variance = spread < 0.0f ? 0.0f : spread;
  p.mean[n * p.groups + group] = p.mean[n * p.groups + group] + shifted;
  p.rstd[n * p.groups + group] = 1.0f / sqrtf(variance + args.eps);
}

GENFAST_HD void finish_group(const GroupNormActBackwardArgs& args, int64_t n, int64_t group) {
  const GroupNorm& p = args.norm;
  const int64_t per_group = channels_per_group(p), first = group * per_group;
  float* sums = p.sums + 2 * n * p.maps.channels + first;
  const float rstd = p.rstd[n * p.groups + group];
  float plain = 0.0f, times = 0.0f;
  for (int64_t c = 0; c < per_group; ++c) {
    const float a = slope_of(p, n, first + c), with_x_hat = rstd * sums[p.maps.channels + c];
    sums[p.maps.channels + c] = with_x_hat;
    plain = plain + a * sums[c], times = times + a * with_x_hat;
  }
  const float each = float(1.0 / double(per_group * p.maps.pixels));
  args.means[n * p.groups + group] = {rstd * (plain * each), rstd * rstd * (times * each)};
}

}  // namespace genfast::inline GENFAST_ISA
