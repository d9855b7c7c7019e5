#include "../kernels/denoising_loss.h"

#include <optional>
#include <tuple>

#include "check.h"

namespace genfast {

static DenoisingLossArgs loss_args(const Checker& check, const Tensor& net, const Tensor& x0, const Tensor& key,
                                   const Tensor& p, const Tensor& q, const std::optional<Tensor>& weight,
                                   int64_t stream) {
  DenoisingLossArgs args{};
  args.x0 = check.floats(x0, "x0");
  args.dtype = check.edge_type(net.scalar_type(), "net");
  args.net = check.data(net, "net", net.scalar_type());
  args.keys = check.keys(key);
  args.p = check.per_sample(p, "p");
  args.q = check.per_sample(q, "q");
  if (weight) args.weight = check.per_sample(*weight, "weight");
  args.stream = check.stream(stream);
  args.shape = check.shape();
  return args;
}

Tensor denoising_loss(Tensor net, Tensor x0, Tensor key, Tensor p, Tensor q, std::optional<Tensor> weight,
                      int64_t stream) {
  const Checker check("denoising_loss", x0, "x0");
  DenoisingLossArgs args = loss_args(check, net, x0, key, p, q, weight, stream);
  const Shape& shape = args.shape;
  Tensor loss = check.empty(ScalarType::Float, {shape.batch}), partial = loss;
  // The CUDA twin spreads a sample over warps: 4 bytes for every 2,048 elements, where that is more than one.
  const int64_t chunks = chunks_per_row(shape.features);
  if (chunks != 1 && runs_cuda_twin(x0)) partial = check.empty(ScalarType::Float, {shape.batch, chunks});
  args.loss = static_cast<float*>(loss.data_ptr());
  args.partial = static_cast<float*>(partial.data_ptr());
  GENFAST_RUN(denoising_loss, x0, args, shape.batch, kGrain / (shape.features + 1));
  return loss;
}

std::tuple<Tensor, Tensor> denoising_loss_backward(Tensor grad, Tensor net, Tensor x0, Tensor key, Tensor p, Tensor q,
                                                   std::optional<Tensor> weight, int64_t stream, bool need_x0) {
  const Checker check("denoising_loss_backward", x0, "x0");
  DenoisingLossBackwardArgs args{};
  args.forward = loss_args(check, net, x0, key, p, q, weight, stream);
  check.table(grad, "grad", ScalarType::Float, {args.forward.shape.batch});
  args.grad = static_cast<const float*>(grad.data_ptr());
  Tensor grad_net = check.empty(net.scalar_type());
  Tensor grad_x0 = need_x0 ? check.empty(ScalarType::Float) : check.empty(ScalarType::Float, {0});
  args.grad_net = grad_net.data_ptr();
  args.grad_x0 = need_x0 ? static_cast<float*>(grad_x0.data_ptr()) : nullptr;
  GENFAST_RUN(denoising_loss_backward, x0, args, map_work(args.forward.shape), kGrain / 64);
  return {grad_net, grad_x0};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("denoising_loss(Tensor net, Tensor x0, Tensor key, Tensor p, Tensor q, Tensor? weight, int stream) -> Tensor");
  m.def("denoising_loss_backward(Tensor grad, Tensor net, Tensor x0, Tensor key, Tensor p, Tensor q, Tensor? weight,"
        " int stream, bool need_x0) -> (Tensor, Tensor)");
}
GENFAST_IMPL(denoising_loss)
GENFAST_IMPL(denoising_loss_backward)
