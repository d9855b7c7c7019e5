#include "dot_body.h"
#include "reduce.h"

namespace genfast::cpu::GENFAST_ISA {

void dot(const DotArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { reduce(p.shape, first, last, DotBody<decltype(type)>{p}); });
}

}  // namespace genfast::cpu::GENFAST_ISA
