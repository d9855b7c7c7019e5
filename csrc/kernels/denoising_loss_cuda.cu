#include "denoising_loss_body.h"
#include "reduce.cuh"

namespace genfast::cuda {

const char* denoising_loss(const DenoisingLossArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.net, p.x0, p.residual);
  with_type(p.dtype, [&](auto type) {
    error = reduce(p.shape, are_aligned, DenoisingLossBody<decltype(type)>{p}, p.partial, stream);
  });
  return error;
}

const char* denoising_loss_backward(const DenoisingLossBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.grad_net, p.grad_x0, p.residual);
  with_type(p.dtype, [&](auto type) {
    error = map(p.shape, are_aligned, DenoisingLossBackwardBody<decltype(type)>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
