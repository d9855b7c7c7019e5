#include "map.h"
#include "step_body.h"

namespace genfast::cpu::GENFAST_ISA {

void step(const StepArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    if (p.history)
      map(p.shape, first, last, StepBody<T, kSlots, true>{p});
    else if (p.terms > 0)
      map(p.shape, first, last, StepBody<T, 0, true>{p});
    else
      map(p.shape, first, last, StepBody<T, 0, false>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
