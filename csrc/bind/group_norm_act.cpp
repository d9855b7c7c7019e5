#include "../kernels/group_norm_act.h"

#include <optional>
#include <tuple>

#include "check.h"

namespace genfast {

using Optional = std::optional<Tensor>;

// The arguments that both directions share, checked.
static GroupNorm group_norm(const Checker& check, const Tensor& x, int64_t groups, const Optional& weight,
                            const Optional& bias, const Optional& scale, const Optional& shift, int64_t activation) {
  const char* op = "group_norm_act";
  GENFAST_CHECK(x.dim() >= 2, op, ": x must have shape (N, C, *); got ", name_of(x.sizes()));
  GroupNorm p{};
  p.dtype = check.edge_type(x.scalar_type(), "x");
  p.x = x.data_ptr();
  p.maps = {x.size(0), x.size(1), 1, check.shape().channels > 1};
  for (int64_t i = 2; i < x.dim(); ++i) p.maps.pixels *= x.size(i);
  p.maps.last = p.maps.last || p.maps.pixels == 1;
  p.groups = groups;
  GENFAST_CHECK(groups >= 1 && p.maps.channels % groups == 0, op, ": groups must divide the ", p.maps.channels,
                " channels of x; got ", groups);
  GENFAST_CHECK(activation >= 0 && activation <= 3, op, ": activation must lie in [0, 3]; got ", activation);
  p.activation = int(activation);
  if (weight) p.weight = check.row(*weight, "weight", p.maps.channels);
  if (bias) p.bias = check.row(*bias, "bias", p.maps.channels);
  if (scale) p.scale = check.rows(*scale, "scale", p.maps.channels, p.scale_stride);
  if (shift) p.shift = check.rows(*shift, "shift", p.maps.channels, p.shift_stride);
  return p;
}

// Scratch of the CUDA twin; none on the CPU.
static Tensor scratch(const Checker& check, const Tensor& x, GroupNorm& p) {
  const int64_t count = runs_cuda_twin(x) ? group_norm_act_partial(p.maps) : 0;
  const Tensor partial = check.empty(ScalarType::Float, {count});
  p.partial = static_cast<float*>(partial.data_ptr());
  return partial;
}

std::tuple<Tensor, Tensor, Tensor> group_norm_act(Tensor x, int64_t groups, Optional weight, Optional bias,
                                                  Optional scale, Optional shift, int64_t activation, double eps) {
  const Checker check("group_norm_act", x, "x");
  GroupNormActArgs args{};
  args.norm = group_norm(check, x, groups, weight, bias, scale, shift, activation);
  args.eps = check.number(eps, "eps", 0, std::numeric_limits<float>::max());
  GroupNorm& p = args.norm;
  Tensor y = check.empty(x.scalar_type());
  Tensor mean = check.empty(ScalarType::Float, {p.maps.batch, groups});
  Tensor rstd = check.empty(ScalarType::Float, {p.maps.batch, groups});
  const Tensor sums = check.empty(ScalarType::Float, {p.maps.batch, 2, p.maps.channels});
  const Tensor partial = scratch(check, x, p);
  args.y = y.data_ptr();
  p.mean = static_cast<float*>(mean.data_ptr()), p.rstd = static_cast<float*>(rstd.data_ptr());
  p.sums = static_cast<float*>(sums.data_ptr());
  if (x.numel() > 0)
    GENFAST_RUN(group_norm_act, x, args);
  else
    torch::stable::zero_(mean), torch::stable::zero_(rstd);
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor> group_norm_act_backward(Tensor dy, Tensor x, Tensor mean, Tensor rstd, Optional weight,
                                                   Optional bias, Optional scale, Optional shift, int64_t activation,
                                                   double) {
  const Checker check("group_norm_act_backward", x, "x");
  GENFAST_CHECK(mean.dim() == 2, "group_norm_act_backward: mean must have shape (N, groups); got ",
                name_of(mean.sizes()));
  const int64_t groups = mean.size(1);
  GroupNormActBackwardArgs args{};
  args.norm = group_norm(check, x, groups, weight, bias, scale, shift, activation);
  GroupNorm& p = args.norm;
  args.dy = check.data(dy, "dy", x.scalar_type());
  check.table(mean, "mean", ScalarType::Float, {p.maps.batch, groups});
  check.table(rstd, "rstd", ScalarType::Float, {p.maps.batch, groups});
  Tensor dx = check.empty(x.scalar_type());
  Tensor sums = check.empty(ScalarType::Float, {p.maps.batch, 2, p.maps.channels});
  const Tensor means = check.empty(ScalarType::Float, {p.maps.batch, groups, 2});
  const Tensor partial = scratch(check, x, p);
  args.dx = dx.data_ptr();
  args.means = static_cast<GroupMeans*>(means.data_ptr());
  p.mean = static_cast<float*>(mean.data_ptr()), p.rstd = static_cast<float*>(rstd.data_ptr());
  p.sums = static_cast<float*>(sums.data_ptr());
  if (x.numel() > 0)
    GENFAST_RUN(group_norm_act_backward, x, args);
  else
    torch::stable::zero_(sums);
  return {dx, sums};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "group_norm_act(Tensor x, int groups, Tensor? weight, Tensor? bias, Tensor? scale, Tensor? shift, int activation,"
      " float eps) -> (Tensor, Tensor, Tensor)");
  m.def(
      "group_norm_act_backward(Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias, Tensor?"
      " scale, Tensor? shift, int activation, float eps) -> (Tensor, Tensor)");
}
GENFAST_IMPL(group_norm_act)
GENFAST_IMPL(group_norm_act_backward)
