#include "bias_act_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

void bias_act(const BiasActArgs& p, int64_t first, int64_t last) {
  with_type_and_act(
      p, [&](auto type, auto act) { map(p.shape, first, last, BiasActBody<decltype(type), decltype(act)>{p}); });
}

void bias_act_backward(const BiasActBackwardArgs& p, int64_t first, int64_t last) {
  with_type_and_act(p, [&](auto type, auto act) {
    using T = decltype(type);
    using Act = decltype(act);
    if (p.parts)
      map(p.of_parts(), first, last, BiasActSumsBody<T, Act>{p});
    else
      map(p.shape, first, last, BiasActBackwardBody<T, Act>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
