#include "map.h"
#include "step_body.h"

namespace genfast::cpu::GENFAST_ISA {

void step(const StepArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    if (p.history)
      map(p.shape, first, last, StepBody<decltype(type), kSlots, true>{p});
    else
      map(p.shape, first, last, StepBody<decltype(type), 0, true>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
