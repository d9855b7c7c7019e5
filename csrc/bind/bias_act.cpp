#include "../kernels/bias_act.h"

#include <optional>

#include "../kernels/affine_gradients.h"
#include "op.h"

namespace genfast {

// Checks of x: (*, D), contiguous, and of bias: (D,); `rows` is x as [batch, D].
struct ColumnChecker : Checker {
  Shape rows{1, 0, 1};
  ColumnChecker(const char* op, const Tensor& x) : Checker(op, x, "x") {
    GENFAST_CHECK(x.is_contiguous(), op, ": x must be contiguous; got strides ", name_of(x.strides()));
    rows.features = x.size(-1);
    for (int64_t i = 0; i < x.dim() - 1; ++i) rows.batch *= x.size(i);
  }
  int activation(int64_t act) const {
    GENFAST_CHECK(act >= 0 && act <= 3, "bias_act: act must lie in [0, 3]; got ", act);
    return int(act);
  }
  const float* columns(const std::optional<Tensor>& bias) const {
    return bias ? row(*bias, "bias", rows.features) : nullptr;
  }
};

Tensor bias_act(Tensor x, std::optional<Tensor> bias, int64_t act) {
  const ColumnChecker check("bias_act", x);
  const DType type = check.edge_type(x.scalar_type(), "x");
  Tensor y = check.empty(x.scalar_type());
  const Small small = check.small(bias, "bias", check.rows.features, false);
  const BiasActArgs args{y.data_ptr(), x.data_ptr(), small, type, check.activation(act), check.rows};
  GENFAST_RUN(bias_act, x, args);
  return y;
}

// (grad_x, to bias)
std::tuple<Tensor, Tensor> bias_act_backward(Tensor x, std::optional<Tensor> bias, Tensor grad_y, int64_t act,
                                             bool need_bias) {
  const ColumnChecker check("bias_act_backward", x);
  const DType type = check.edge_type(x.scalar_type(), "x");
  const void* from = check.data(grad_y, "grad_y", x.scalar_type());
  const float* columns = check.columns(bias);
  const int activation = check.activation(act);
  const auto [batch, features, _] = check.rows;
  Tensor grad_x = check.empty(x.scalar_type());
  Tensor to_bias = check.nothing(ScalarType::Float);
  if (need_bias)
    to_bias = bias ? allocate("bias_act_backward", *bias, bias->sizes(), ScalarType::Float)
                   : check.empty(ScalarType::Float, {features});
  BiasActBackwardArgs args{grad_x.data_ptr(), x.data_ptr(), from, columns, nullptr, type, activation, check.rows};
  if (need_bias && batch > 0) {
    float* sums = static_cast<float*>(to_bias.data_ptr());
    args.parts = args.units() > 1 ? check.scratch<float>(args.units() * features) : sums;
  }
  GENFAST_RUN(bias_act_backward, x, args);
  if (need_bias && batch == 0) {
    x.call().zero(to_bias);
  } else if (args.parts && args.units() > 1) {
    AffineGradientsArgs add{};
    add.slopes = add.offsets = args.parts, add.stride = features, add.batch = args.units(), add.features = features;
    add.to_bias = static_cast<float*>(to_bias.data_ptr());
    GENFAST_RUN(affine_gradients, x, add);
  }
  return {grad_x, to_bias};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("bias_act(Tensor x, Tensor? bias, int act) -> Tensor");
  m.def("bias_act_backward(Tensor x, Tensor? bias, Tensor grad_y, int act, bool need_bias) -> (Tensor, Tensor)");
}
GENFAST_IMPL(bias_act)
GENFAST_IMPL(bias_act_backward)
