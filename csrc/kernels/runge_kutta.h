#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct RungeKuttaArgs {
  float* out;      // [batch, features]: x + sum_j c_j k_j
  float* err;      // [batch]: the root mean square of sum_j error_j k_j over its tolerance, with `error`
  float* partial;  // [batch, chunks] scratch of the CUDA twin; `err` itself where there is one chunk
  const float* x;  // [batch, features]
  const float* k;  // [stages, batch, features]
  int32_t stages;
  const float *c, *error;  // [batch, stages]; error may be null
  float rtol, atol;        // an element's tolerance is atol + rtol max(|x|, |out|)
  Shape shape;
};
inline Work work(const RungeKuttaArgs& p) { return rows_of_work(p.shape); }

GENFAST_TWINS(runge_kutta, RungeKuttaArgs)

}  // namespace genfast
