#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct DiffuseArgs {
  void* y;  // [batch, features], of `dtype`: c_in (alpha x0 + sigma z)
  DType dtype;
  float* target;  // [batch, features] or null: p x0 + q z
  const float* x0;
  Keys keys;
  const float *alpha, *sigma, *c_in;  // [batch]; c_in may be null: 1
  const float *p, *q;                 // [batch], with target
  uint32_t stream;
  Shape shape;
};
inline Work work(const DiffuseArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(diffuse, DiffuseArgs)

}  // namespace genfast
