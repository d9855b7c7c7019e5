#include "../kernels/denoising_loss.h"

#include <optional>
#include <tuple>

#include "op.h"

namespace genfast {

std::tuple<Tensor, Tensor> denoising_loss(Tensor net, Tensor x0, Tensor key, Tensor p, Tensor q,
                                          std::optional<Tensor> weight, int64_t stream, bool keep_residual) {
  const Checker check("denoising_loss", x0, "x0");
  const Shape& shape = check.shape();
  DenoisingLossArgs args{};
  args.x0 = check.floats(x0, "x0");
  args.dtype = check.edge_type(net.scalar_type(), "net");
  args.net = check.data(net, "net", net.scalar_type());
  args.keys = check.keys(key);
  args.p = check.per_sample(p, "p");
  args.q = check.per_sample(q, "q");
  if (weight) args.weight = check.per_sample(*weight, "weight");
  args.stream = check.stream(stream);
  args.shape = shape;
  Tensor loss = check.empty(ScalarType::Float, {shape.batch});
  Tensor residual = keep_residual ? check.empty(net.scalar_type()) : check.nothing(net.scalar_type());
  args.loss = static_cast<float*>(loss.data_ptr());
  args.partial = partial_sums(check, x0, args.loss, 1);
  args.residual = residual.data_ptr();
  GENFAST_RUN(denoising_loss, x0, args);
  return {loss, residual};
}

std::tuple<Tensor, Tensor> denoising_loss_backward(Tensor grad, Tensor residual, Tensor p, std::optional<Tensor> weight,
                                                   bool need_x0) {
  const Checker check("denoising_loss_backward", residual, "residual");
  DenoisingLossBackwardArgs args{};
  args.dtype = check.edge_type(residual.scalar_type(), "residual");
  args.residual = residual.data_ptr();
  check.table(grad, "grad", ScalarType::Float, {check.shape().batch});
  args.grad = static_cast<const float*>(grad.data_ptr());
  args.p = check.per_sample(p, "p");
  if (weight) args.weight = check.per_sample(*weight, "weight");
  args.shape = {check.shape().batch, check.shape().features, 1};  // without noise the memory order is as good as any
  Tensor grad_net = check.empty(residual.scalar_type());
  Tensor grad_x0 = need_x0 ? check.empty(ScalarType::Float) : check.nothing(ScalarType::Float);
  args.grad_net = grad_net.data_ptr();
  args.grad_x0 = static_cast<float*>(grad_x0.data_ptr());
  GENFAST_RUN(denoising_loss_backward, residual, args);
  return {grad_net, grad_x0};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "denoising_loss(Tensor net, Tensor x0, Tensor key, Tensor p, Tensor q, Tensor? weight, int stream,"
      " bool keep_residual) -> (Tensor, Tensor)");
  m.def(
      "denoising_loss_backward(Tensor grad, Tensor residual, Tensor p, Tensor? weight, bool need_x0) -> (Tensor, "
      "Tensor)");
}
GENFAST_IMPL(denoising_loss)
GENFAST_IMPL(denoising_loss_backward)
