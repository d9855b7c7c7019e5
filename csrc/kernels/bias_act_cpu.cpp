#include "bias_act_body.h"
#include "rows.h"

namespace genfast::cpu::GENFAST_ISA {

void bias_act(const BiasActArgs& p, int64_t first, int64_t last) {
  with_type_and_act(
      p, [&](auto type, auto act) { map(p.shape, first, last, BiasActBody<decltype(type), decltype(act)>{p}); });
}

void bias_act_backward(const BiasActBackwardArgs& p, int64_t first, int64_t last) {
  with_type_and_act(p, [&](auto type, auto act) {
    map(p.shape, first, last, BiasActBackwardBody<decltype(type), decltype(act)>{p});
  });
}

void bias_sums(const BiasSumsArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    for (int64_t unit = first; unit < last; ++unit)
      lanes(0, p.shape.features, [&](auto lane) {
        const Floats sum = bias_sum<decltype(type)>(p, unit, [&](const auto* row) { return lane.load(row); });
        lane.store(p.parts + unit * p.shape.features, sum);
      });
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
