#include "../kernels/norm_modulate.h"

#include <optional>
#include <tuple>

#include "affine.h"
#include "op.h"

namespace genfast {

using Optional = std::optional<Tensor>;

// Checks of x: (B, *, D), contiguous, and of what comes with it.
struct TokenChecker : Checker {
  Tokens tokens;

  TokenChecker(const char* op, const Tensor& x, const char* name) : Checker(op, x, name) {
    GENFAST_CHECK(x.dim() >= 2, op, ": ", name, " must have shape (B, *, D); got ", name_of(x.sizes()));
    GENFAST_CHECK(shape().channels == 1, op, ": ", name, " must be contiguous; got strides ", name_of(x.strides()),
                  "; call .contiguous()");
    tokens = {x.size(0), 1, x.size(x.dim() - 1)};
    for (int64_t i = 1; i < x.dim() - 1; ++i) tokens.tokens *= x.size(i);
  }
  const float* vector(const Optional& t, const char* name) const {
    return t ? row(*t, name, tokens.features) : nullptr;
  }
  int64_t count() const { return tokens.batch * tokens.tokens; }
};

std::tuple<Tensor, Tensor, Tensor> norm_modulate(Tensor x, Optional y, Optional gate, Optional weight, Optional bias,
                                                 Optional scale, Optional shift, double eps, bool rms,
                                                 bool keep_moments) {
  const TokenChecker check("norm_modulate", x, y ? "residual" : "x");
  GENFAST_CHECK(y.has_value() == gate.has_value(), "norm_modulate: y and gate go together");
  NormModulateArgs args{};
  args.dtype = check.edge_type(x.scalar_type(), y ? "residual" : "x");
  args.x = check.aligned(x);
  if (y) args.y = check.aligned_data(*y, "y", x.scalar_type());
  const int64_t features = check.tokens.features;
  args.gate = check.small(gate, "gate", features, true);
  args.weight = check.small(weight, "weight", features, false);
  args.bias = check.small(bias, "bias", features, false);
  args.scale = check.small(scale, "scale", features, true);
  args.shift = check.small(shift, "shift", features, true);
  bool narrow = false, wide = false;
  for (const Small& small : {args.gate, args.weight, args.bias, args.scale, args.shift})
    if (small.data) (small.narrow ? narrow : wide) = true;
  GENFAST_CHECK(!narrow || !wide, "norm_modulate: gate, weight, bias, scale and shift must be of one type");
  args.eps = check.number(eps, "eps", 0, std::numeric_limits<float>::max());
  args.rms = rms;
  args.shape = check.tokens;
  Tensor out = check.empty(x.scalar_type()), v = y ? check.empty(x.scalar_type()) : check.nothing(x.scalar_type());
  Tensor moments =
      keep_moments ? check.empty(ScalarType::Float, {2 - rms, check.count()}) : check.nothing(ScalarType::Float);
  args.out = out.data_ptr();
  args.v = v.data_ptr();
  if (keep_moments) {
    float* first = static_cast<float*>(moments.data_ptr());
    args.mean = rms ? nullptr : first;
    args.rstd = rms ? first : first + check.count();
  }
  GENFAST_RUN(norm_modulate, x, args);
  return {out, v, moments};
}

// (grad_v, grad_y, to weight, bias, scale, shift, gate)
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> norm_modulate_backward(
    Tensor grad_out, Optional grad_v_too, Tensor v, Optional y, Tensor moments, Optional gate, Optional weight,
    Optional bias, Optional scale, bool need_v, int64_t needs) {
  const TokenChecker check("norm_modulate_backward", v, "v");
  GENFAST_CHECK(need_v || !(y || gate), "norm_modulate_backward: y and gate need need_v");
  const ScalarType type = v.scalar_type();
  NormModulateBackwardArgs args{};
  args.dtype = check.edge_type(type, "v");
  args.v = check.aligned(v);
  args.grad_out = check.aligned_data(grad_out, "grad_out", type);
  if (grad_v_too) args.grad_v_too = check.aligned_data(*grad_v_too, "grad_v_too", type);
  if (y) args.y = check.aligned_data(*y, "y", type);
  const bool rms = moments.dim() > 0 && moments.size(0) == 1;
  check.table(moments, "moments", ScalarType::Float, {2 - rms, check.count()});
  args.mean = rms ? nullptr : static_cast<const float*>(moments.data_ptr());
  args.rstd = static_cast<const float*>(moments.data_ptr()) + (rms ? 0 : check.count());
  const auto [batch, tokens, features] = check.tokens;
  args.gate = check.small(gate, "gate", features, true, false);
  args.weight = check.vector(weight, "weight");
  check.vector(bias, "bias");
  args.scale = check.small(scale, "scale", features, true, false);
  args.shape = check.tokens;

  AffineGradients affine(check, "norm_modulate_backward", batch, features, needs, weight, bias);
  affine.args.scale = static_cast<const float*>(args.scale.data), affine.args.scale_stride = args.scale.stride;
  args.modulation = affine.wanted();
  const int64_t teams = teams_of_block(features * (args.dtype == DType::float32 ? 4 : 2), grad_v_too || y || gate);
  args.unit = runs_cuda_twin(v) ? teams * kTokensOfTeam : kTokens;
  const int64_t units = args.units(), sums = 2 * args.modulation + y.has_value();
  Tensor grad_v = need_v ? check.empty(type) : check.nothing(type);
  Tensor grad_y = gate ? check.empty(type) : check.nothing(type);
  Tensor to_gate = y ? check.empty(ScalarType::Float, {batch, features}) : check.nothing(ScalarType::Float);
  args.grad_v = grad_v.data_ptr(), args.grad_y = grad_y.data_ptr();
  args.columns = check.scratch<float>(batch * units * sums * features);
  if (v.numel() == 0) {  // there is nothing to add, and nowhere to point to
    affine.zero();
    if (y) v.call().zero(to_gate);
  } else {
    GENFAST_RUN(norm_modulate_backward, v, args);
    const bool plain = args.modulation && affine.plain();  // then the sums themselves are the gradients
    float* offsets = args.columns;
    if (plain || y || (units > 1 && args.modulation)) {
      AddUnitsArgs add{{}, args.columns, units, sums, {batch * sums, features, 1}};
      if (plain) {
        add.out[0] = {affine.args.to_shift, features}, add.out[1] = {affine.args.to_scale, features};
      } else if (args.modulation) {
        offsets = check.scratch<float>(2 * batch * features);
        add.out[0] = {offsets, 2 * features}, add.out[1] = {offsets + features, 2 * features};
      }
      if (y) add.out[sums - 1] = {static_cast<float*>(to_gate.data_ptr()), features};
      GENFAST_RUN(add_units, v, add);
    }
    if (!plain) affine.find(v, offsets, 2 * features);
  }
  return {grad_v, grad_y, affine.to_weight, affine.to_bias, affine.to_scale, affine.to_shift, to_gate};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "norm_modulate(Tensor x, Tensor? y, Tensor? gate, Tensor? weight, Tensor? bias, Tensor? scale, Tensor? shift,"
      " float eps, bool rms, bool keep_moments) -> (Tensor, Tensor, Tensor)");
  m.def(
      "norm_modulate_backward(Tensor grad_out, Tensor? grad_v_too, Tensor v, Tensor? y, Tensor moments,"
      " Tensor? gate, Tensor? weight, Tensor? bias, Tensor? scale, bool need_v, int needs)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}
GENFAST_IMPL(norm_modulate)
GENFAST_IMPL(norm_modulate_backward)
