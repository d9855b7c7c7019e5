#include "dropout_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

void dropout(const DropoutArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { map(p.shape, first, last, DropoutBody<decltype(type)>{p}); });
}

}  // namespace genfast::cpu::GENFAST_ISA
