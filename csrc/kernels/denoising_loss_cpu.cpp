#include "denoising_loss_body.h"
#include "reduce.h"

namespace genfast::cpu::GENFAST_ISA {

void denoising_loss(const DenoisingLossArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { reduce(p.shape, first, last, DenoisingLossBody<decltype(type)>{p}); });
}

void denoising_loss_backward(const DenoisingLossBackwardArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { map(p.shape, first, last, DenoisingLossBackwardBody<decltype(type)>{p}); });
}

}  // namespace genfast::cpu::GENFAST_ISA
