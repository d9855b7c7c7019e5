#include "reduce.cuh"
#include "reparameterize_body.h"

namespace genfast::cuda {

const char* reparameterize(const ReparameterizeArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.z, p.mu, p.logvar);
  with_type(p.dtype, [&](auto type) {
    error = reduce(p.shape, are_aligned, ReparameterizeBody<decltype(type)>{p}, p.partial, stream);
  });
  return error;
}

const char* reparameterize_backward(const ReparameterizeBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.grad_mu, p.grad_logvar, p.grad_z, p.mu, p.logvar);
  with_type(p.dtype, [&](auto type) {
    error = map(p.shape, are_aligned, ReparameterizeBackwardBody<decltype(type)>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
