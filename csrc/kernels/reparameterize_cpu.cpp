#include "reduce.h"
#include "reparameterize_body.h"

namespace genfast::cpu::GENFAST_ISA {

void reparameterize(const ReparameterizeArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { reduce(p.shape, first, last, ReparameterizeBody<decltype(type)>{p}); });
}

void reparameterize_backward(const ReparameterizeBackwardArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { map(p.shape, first, last, ReparameterizeBackwardBody<decltype(type)>{p}); });
}

}  // namespace genfast::cpu::GENFAST_ISA
