#include "reduce.cuh"
#include "runge_kutta_body.h"

namespace genfast::cuda {

const char* runge_kutta(const RungeKuttaArgs& p, Stream stream) {
  const bool are_aligned = aligned(p.out, p.x, p.k);
  return p.error ? reduce(p.shape, are_aligned, RungeKuttaErrorBody{p}, p.partial, stream)
                 : map(p.shape, are_aligned, RungeKuttaBody{p}, stream);
}

}  // namespace genfast::cuda
