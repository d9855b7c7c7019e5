#include "glu_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

void glu(const GluArgs& p, int64_t first, int64_t last) {
  with_glu(p,
           [&](auto type, auto kind) { map(p.shape, first, last, GluBody<decltype(type), decltype(kind)::value>{p}); });
}

void glu_backward(const GluBackwardArgs& p, int64_t first, int64_t last) {
  with_glu(p, [&](auto type, auto kind) {
    map(p.shape, first, last, GluBackwardBody<decltype(type), decltype(kind)::value>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
