#include "../kernels/norm_modulate.h"

#include <optional>
#include <tuple>

#include "check.h"

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
  Table per_sample(const Optional& t, const char* name) const {
    Table found{};
    if (t) found.data = rows(*t, name, tokens.features, found.stride);
    return found;
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
  args.x = x.data_ptr();
  if (y) args.y = check.data(*y, "y", x.scalar_type());
  args.gate = check.per_sample(gate, "gate");
  args.weight = check.vector(weight, "weight");
  args.bias = check.vector(bias, "bias");
  args.scale = check.per_sample(scale, "scale");
  args.shift = check.per_sample(shift, "shift");
  args.eps = check.number(eps, "eps", 0, std::numeric_limits<float>::max());
  args.rms = rms;
  args.shape = check.tokens;
  Tensor out = check.empty(x.scalar_type()), v = y ? check.empty(x.scalar_type()) : check.empty(x.scalar_type(), {0});
  Tensor moments = check.empty(ScalarType::Float, {keep_moments ? 2 - rms : 0, check.count()});
  args.out = out.data_ptr();
  args.v = y ? v.data_ptr() : nullptr;
  if (keep_moments) {
    float* first = static_cast<float*>(moments.data_ptr());
    args.mean = rms ? nullptr : first;
    args.rstd = rms ? first : first + check.count();
  }
  GENFAST_RUN(norm_modulate, x, args);
  return {out, v, moments};
}

std::tuple<Tensor, Tensor, Tensor> norm_modulate_backward(Tensor grad_out, Optional grad_v_too, Tensor v, Optional y,
                                                          Tensor moments, Optional gate, Optional weight,
                                                          Optional scale, bool need_v, bool need_modulation) {
  const TokenChecker check("norm_modulate_backward", v, "v");
  GENFAST_CHECK(need_v || !(y || gate), "norm_modulate_backward: y and gate need need_v");
  const ScalarType type = v.scalar_type();
  NormModulateBackwardArgs args{};
  args.dtype = check.edge_type(type, "v");
  args.v = v.data_ptr();
  args.grad_out = check.data(grad_out, "grad_out", type);
  if (grad_v_too) args.grad_v_too = check.data(*grad_v_too, "grad_v_too", type);
  if (y) args.y = check.data(*y, "y", type);
  const bool rms = moments.dim() > 0 && moments.size(0) == 1;
  check.table(moments, "moments", ScalarType::Float, {2 - rms, check.count()});
  args.mean = rms ? nullptr : static_cast<const float*>(moments.data_ptr());
  args.rstd = static_cast<const float*>(moments.data_ptr()) + (rms ? 0 : check.count());
  args.gate = check.per_sample(gate, "gate");
  args.weight = check.vector(weight, "weight");
  args.scale = check.per_sample(scale, "scale");
  args.modulation = need_modulation;
  args.shape = check.tokens;

  const auto [batch, tokens, features] = check.tokens;
  const int64_t units = check.tokens.units(), sums = 2 * need_modulation + y.has_value();
  Tensor grad_v = need_v ? check.empty(type) : check.empty(type, {0});
  Tensor grad_y = gate ? check.empty(type) : check.empty(type, {0});
  Tensor columns = check.empty(ScalarType::Float, {batch, sums, features});
  const Tensor parts = units == 1 ? columns : check.empty(ScalarType::Float, {batch, units, sums, features});
  if (need_v) args.grad_v = grad_v.data_ptr();
  if (gate) args.grad_y = grad_y.data_ptr();
  args.columns = static_cast<float*>(parts.data_ptr());
  GENFAST_RUN(norm_modulate_backward, v, args);
  if (units == 0) {  // no tokens: there is nothing to add, and nowhere to point to
    torch::stable::zero_(columns);
  } else if (units != 1) {
    const Shape flat{batch, sums * features, 1};
    const AddUnitsArgs add{static_cast<float*>(columns.data_ptr()), args.columns, units, flat};
    GENFAST_RUN(add_units, v, add);
  }
  return {grad_v, grad_y, columns};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "norm_modulate(Tensor x, Tensor? y, Tensor? gate, Tensor? weight, Tensor? bias, Tensor? scale, Tensor? shift,"
      " float eps, bool rms, bool keep_moments) -> (Tensor, Tensor, Tensor)");
  m.def(
      "norm_modulate_backward(Tensor grad_out, Tensor? grad_v_too, Tensor v, Tensor? y, Tensor moments,"
      " Tensor? gate, Tensor? weight, Tensor? scale, bool need_v, bool need_modulation)"
      " -> (Tensor, Tensor, Tensor)");
}
GENFAST_IMPL(norm_modulate)
GENFAST_IMPL(norm_modulate_backward)
