#include "../kernels/reparameterize.h"

#include <tuple>

#include "op.h"

namespace genfast {

std::tuple<Tensor, Tensor> reparameterize(Tensor mu, Tensor logvar, Tensor key, int64_t stream) {
  const Checker check("reparameterize", mu, "mu");
  const Shape& shape = check.shape();
  ReparameterizeArgs args{};
  args.dtype = check.edge_type(mu.scalar_type(), "mu");
  args.mu = mu.data_ptr();
  args.logvar = check.data(logvar, "logvar", mu.scalar_type());
  args.keys = check.keys(key);
  args.stream = check.stream(stream);
  args.shape = shape;
  Tensor z = check.empty(mu.scalar_type());
  Tensor kl = check.empty(ScalarType::Float, {shape.batch});
  args.z = z.data_ptr();
  args.kl = static_cast<float*>(kl.data_ptr());
  args.partial = partial_sums(check, mu, args.kl, 1);
  GENFAST_RUN(reparameterize, mu, args);
  return {z, kl};
}

std::tuple<Tensor, Tensor> reparameterize_backward(Tensor grad_z, Tensor grad_kl, Tensor mu, Tensor logvar, Tensor key,
                                                   int64_t stream) {
  const Checker check("reparameterize_backward", mu, "mu");
  ReparameterizeBackwardArgs args{};
  args.dtype = check.edge_type(mu.scalar_type(), "mu");
  args.mu = mu.data_ptr();
  args.logvar = check.data(logvar, "logvar", mu.scalar_type());
  args.grad_z = check.data(grad_z, "grad_z", mu.scalar_type());
  check.table(grad_kl, "grad_kl", ScalarType::Float, {check.shape().batch});
  args.grad_kl = static_cast<const float*>(grad_kl.data_ptr());
  args.keys = check.keys(key);
  args.stream = check.stream(stream);
  args.shape = check.shape();
  Tensor grad_mu = check.empty(mu.scalar_type()), grad_logvar = check.empty(mu.scalar_type());
  args.grad_mu = grad_mu.data_ptr();
  args.grad_logvar = grad_logvar.data_ptr();
  GENFAST_RUN(reparameterize_backward, mu, args);
  return {grad_mu, grad_logvar};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("reparameterize(Tensor mu, Tensor logvar, Tensor key, int stream) -> (Tensor, Tensor)");
  m.def(
      "reparameterize_backward(Tensor grad_z, Tensor grad_kl, Tensor mu, Tensor logvar, Tensor key, int stream)"
      " -> (Tensor, Tensor)");
}
GENFAST_IMPL(reparameterize)
GENFAST_IMPL(reparameterize_backward)
