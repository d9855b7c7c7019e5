#include "map.h"
#include "noise_body.h"

namespace genfast::cpu::GENFAST_ISA {

void noise(const NoiseArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    if (p.distribution == Distribution::normal)
      map(p.shape, first, last, NoiseBody<decltype(type), Distribution::normal>{p});
    else
      map(p.shape, first, last, NoiseBody<decltype(type), Distribution::uniform>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
