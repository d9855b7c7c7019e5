#include "diffuse_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

void diffuse(const DiffuseArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    if (p.target)
      map(p.shape, first, last, DiffuseBody<decltype(type), true>{p});
    else
      map(p.shape, first, last, DiffuseBody<decltype(type), false>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
