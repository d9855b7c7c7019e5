#pragma once
// What the backward of a norm answers for weight, bias, scale and shift.
#include "../kernels/affine_gradients.h"
#include "check.h"

namespace genfast {

struct AffineGradients {
  Tensor to_weight, to_bias, to_scale, to_shift;
  AffineGradientsArgs args{};

  // needs: a bit for each of the four that is wanted, in this order.  weight, bias: (features,), checked, or none.
  AffineGradients(const Checker& check, const char* op, int64_t batch, int64_t features, int64_t needs,
                  const std::optional<Tensor>& weight, const std::optional<Tensor>& bias) {
    GENFAST_CHECK(needs >= 0 && needs < 16, op, ": needs must lie in [0, 16); got ", needs);
    const auto row = [&](int64_t bit, const std::optional<Tensor>& like) {
      if (!(needs & bit)) return check.nothing(ScalarType::Float);
      return like ? allocate(op, *like, like->sizes(), ScalarType::Float) : check.empty(ScalarType::Float, {features});
    };
    const auto rows = [&](int64_t bit) {
      return needs & bit ? check.empty(ScalarType::Float, {batch, features}) : check.nothing(ScalarType::Float);
    };
    to_weight = row(1, weight), to_bias = row(2, bias), to_scale = rows(4), to_shift = rows(8);
    args.batch = batch, args.features = features;
    if (weight) args.weight = static_cast<const float*>(weight->data_ptr());
    if (bias) args.bias = static_cast<const float*>(bias->data_ptr());
    for (auto [out, tensor] : {std::pair{&args.to_weight, &to_weight},
                               {&args.to_bias, &to_bias},
                               {&args.to_scale, &to_scale},
                               {&args.to_shift, &to_shift}})
      *out = static_cast<float*>(tensor->data_ptr());
  }
  // Whether slope and offset are 1 + scale and shift.
  bool plain() const { return !args.weight && !args.bias && !to_weight.owner() && !to_bias.owner(); }
  bool wanted() const { return to_weight.owner() || to_bias.owner() || to_scale.owner() || to_shift.owner(); }

  // From sums over the elements of a sample, [batch, 2 or more, features]: of the gradient of offset, then of slope.
  void find(const Tensor& like, const float* sums, int64_t stride) {
    args.offsets = sums, args.slopes = sums + args.features, args.stride = stride;
    if (wanted()) GENFAST_RUN(affine_gradients, like, args);
  }
  // The same where there are no elements.
  void zero() {
    for (const Tensor* out : {&to_weight, &to_bias, &to_scale, &to_shift})
      if (out->owner()) out->call().zero(*out);
  }
};

}  // namespace genfast
