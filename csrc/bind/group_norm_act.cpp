#include "../kernels/group_norm_act.h"

#include <optional>
#include <tuple>

#include "../kernels/group_norm_act_split.h"
#include "affine.h"
#include "op.h"

namespace genfast {

using Optional = std::optional<Tensor>;

// The arguments that both directions share, checked.  `narrow`: small tensors may be of the type of x.
static GroupNorm group_norm(const Checker& check, const Tensor& x, int64_t groups, const Optional& weight,
                            const Optional& bias, const Optional& scale, const Optional& shift, int64_t activation,
                            bool narrow) {
  const char* op = "group_norm_act";
  GENFAST_CHECK(x.dim() >= 2, op, ": x must have shape (N, C, *); got ", name_of(x.sizes()));
  GroupNorm p{};
  p.dtype = check.edge_type(x.scalar_type(), "x");
  p.x = check.aligned(x);
  p.maps = {x.size(0), x.size(1), 1, check.shape().channels > 1};
  for (int64_t i = 2; i < x.dim(); ++i) p.maps.pixels *= x.size(i);
  p.maps.last = p.maps.last || p.maps.pixels == 1;
  p.groups = groups;
  GENFAST_CHECK(groups >= 1 && p.maps.channels % groups == 0, op, ": groups must divide the ", p.maps.channels,
                " channels of x; got ", groups);
  GENFAST_CHECK(activation >= 0 && activation <= 3, op, ": activation must lie in [0, 3]; got ", activation);
  p.activation = int(activation), p.per_group = p.maps.channels / groups;
  p.wide = p.dtype == DType::float32 ? 4 : 8;
  if ((p.maps.last ? p.maps.channels : p.maps.pixels) % p.wide) p.wide = 1;
  p.weight = check.small(weight, "weight", p.maps.channels, false, narrow);
  p.bias = check.small(bias, "bias", p.maps.channels, false, narrow);
  p.scale = check.small(scale, "scale", p.maps.channels, true, narrow);
  p.shift = check.small(shift, "shift", p.maps.channels, true, narrow);
  return p;
}

// What is added to x: like it, or a number for each channel, of a sample or of all.
static void take_add(const Checker& check, const Tensor& x, const Optional& add, GroupNorm& p) {
  if (!add) return;
  if (add->dim() == x.dim() && (x.dim() > 2 || add->scalar_type() == x.scalar_type()))
    p.like = check.aligned_data(*add, "add", x.scalar_type());
  else
    p.add = check.small(add, "add", p.maps.channels, add->dim() != 1);
}

// No part at all on a CPU.
static Cut cut_on_device(const Tensor& x, const GroupNorm& p, bool backward) {
  return runs_cuda_twin(x) && x.numel() > 0 ? cut_of(p, backward, shared_memory_of(x)) : Cut{};
}
static unsigned* counters(const Checker& check, const Cut& cut, const GroupNorm& p) {
  return check.scratch<unsigned>(p.maps.batch * cut.units(p));
}

// (y, sum, moments): x + add, where it is asked for or kept; mean and rstd, (2, N, groups)
std::tuple<Tensor, Tensor, Tensor> group_norm_act(Tensor x, int64_t groups, Optional weight, Optional bias,
                                                  Optional scale, Optional shift, Optional add, int64_t activation,
                                                  double eps, bool return_sum, bool keep_moments) {
  const Checker check("group_norm_act", x, "x");
  GroupNormActArgs args{};
  args.norm = group_norm(check, x, groups, weight, bias, scale, shift, activation, true);
  args.eps = check.number(eps, "eps", 0, std::numeric_limits<float>::max());
  GroupNorm& p = args.norm;
  take_add(check, x, add, p);
  Tensor y = check.empty(x.scalar_type());
  const bool with_sum = add && (return_sum || keep_moments);
  Tensor sum = with_sum ? check.empty(x.scalar_type()) : check.nothing(x.scalar_type());
  p.sum = sum.data_ptr();
  if (add && !with_sum && !runs_cuda_twin(x))
    p.sum = check.scratch<char>(x.numel() * (p.dtype == DType::float32 ? 4 : 2));
  args.y = y.data_ptr();
  const int64_t count = p.maps.batch * groups;
  Tensor moments =
      keep_moments ? check.empty(ScalarType::Float, {2, p.maps.batch, groups}) : check.nothing(ScalarType::Float);
  const Cut cut = cut_on_device(x, p, false);
  if (keep_moments)
    p.mean = static_cast<float*>(moments.data_ptr());
  else if (!cut.once)
    p.mean = check.scratch<float>(2 * count);
  p.rstd = p.mean + count;
  if (cut.parts() == 0)
    p.sums = check.scratch<float>(2 * p.maps.batch * p.maps.channels);
  else if (!cut.once)
    p.partial = check.scratch<float>(4 * count * cut.parts()), p.counters = counters(check, cut, p);
  if (x.numel() > 0)
    GENFAST_RUN(group_norm_act, x, args);
  else if (keep_moments)
    x.call().zero(moments);
  return {y, sum, moments};
}

// (dx, to weight, bias, scale, shift)
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> group_norm_act_backward(Tensor dy, Tensor x, Tensor moments,
                                                                           Optional weight, Optional bias,
                                                                           Optional scale, Optional shift,
                                                                           Optional more, int64_t activation, double,
                                                                           int64_t needs) {
  const Checker check("group_norm_act_backward", x, "x");
  GENFAST_CHECK(moments.dim() == 3, "group_norm_act_backward: moments must have shape (2, N, groups); got ",
                name_of(moments.sizes()));
  const int64_t groups = moments.size(2);
  GroupNormActBackwardArgs args{};
  args.norm = group_norm(check, x, groups, weight, bias, scale, shift, activation, false);
  GroupNorm& p = args.norm;
  args.dy = check.aligned_data(dy, "dy", x.scalar_type());
  if (more) args.more = check.aligned_data(*more, "more", x.scalar_type());
  check.table(moments, "moments", ScalarType::Float, {2, p.maps.batch, groups});
  AffineGradients affine(check, "group_norm_act_backward", p.maps.batch, p.maps.channels, needs, weight, bias);
  affine.args.scale = static_cast<const float*>(p.scale.data), affine.args.scale_stride = p.scale.stride;
  Tensor dx = check.empty(x.scalar_type());
  args.dx = dx.data_ptr();
  p.sums = check.scratch<float>(2 * p.maps.batch * p.maps.channels);
  const Cut cut = cut_on_device(x, p, true);
  if (cut.parts() > 0 && !cut.once) {
    p.partial = check.scratch<float>(2 * p.maps.batch * p.maps.channels * cut.pieces());
    p.counters = counters(check, cut, p);
  }
  if (!cut.once) args.means = reinterpret_cast<GroupMeans*>(check.scratch<float>(2 * p.maps.batch * groups));
  p.mean = static_cast<float*>(moments.data_ptr()), p.rstd = p.mean + p.maps.batch * groups;
  if (x.numel() > 0) {
    GENFAST_RUN(group_norm_act_backward, x, args);
    affine.find(x, p.sums, 2 * p.maps.channels);
  } else {
    affine.zero();
  }
  return {dx, affine.to_weight, affine.to_bias, affine.to_scale, affine.to_shift};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "group_norm_act(Tensor x, int groups, Tensor? weight, Tensor? bias, Tensor? scale, Tensor? shift, Tensor? add,"
      " int activation, float eps, bool return_sum, bool keep_moments) -> (Tensor, Tensor, Tensor)");
  m.def(
      "group_norm_act_backward(Tensor dy, Tensor x, Tensor moments, Tensor? weight, Tensor? bias, Tensor?"
      " scale, Tensor? shift, Tensor? more, int activation, float eps, int needs) -> (Tensor, Tensor, Tensor, Tensor,"
      " Tensor)");
}
GENFAST_IMPL(group_norm_act)
GENFAST_IMPL(group_norm_act_backward)
