#include "map.h"
#include "residual_body.h"

namespace genfast::cpu::GENFAST_ISA {

void residual(const ResidualArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { map(p.shape, first, last, ResidualBody<decltype(type)>{p}); });
}

}  // namespace genfast::cpu::GENFAST_ISA
