#include "reduce.h"
#include "runge_kutta_body.h"

namespace genfast::cpu::GENFAST_ISA {

void runge_kutta(const RungeKuttaArgs& p, int64_t first, int64_t last) {
  const int64_t units = units_per_row(p.shape);
  if (p.error)
    reduce(p.shape, first, last, RungeKuttaErrorBody{p});
  else
    map(p.shape, first * units, last * units, RungeKuttaBody{p});
}

}  // namespace genfast::cpu::GENFAST_ISA
