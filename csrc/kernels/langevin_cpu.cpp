#include "langevin_body.h"
#include "reduce.h"

namespace genfast::cpu::GENFAST_ISA {

void langevin(const LangevinArgs& p, int64_t first, int64_t last) {
  const int64_t units = units_per_row(p.shape);
  with_type(p.dtype, [&](auto type) {
    for (int64_t row = first; row < last; ++row) {  // a row is still in the cache for its second pass
      reduce(p.shape, row, row + 1, LangevinNormsBody<decltype(type)>{p});
      map(p.shape, row * units, (row + 1) * units, LangevinBody<decltype(type)>{p});
    }
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
