#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// Of the halves [a, b] of a row, one is the gate and the other the value: a GELU(b) or SiLU(a) b.
enum class Glu : int32_t { geglu, swiglu };

struct GluArgs {
  void* y;        // [batch, features], of `dtype`
  const void* x;  // [batch, 2 features], of `dtype`
  DType dtype;
  Glu kind;
  Shape shape;  // of y
};
inline Work work(const GluArgs& p) { return units_of_work(p.shape); }

struct GluBackwardArgs {
  void* grad_x;  // [batch, 2 features], of `dtype`, as are
  const void *x, *grad_y;
  DType dtype;
  Glu kind;
  Shape shape;  // of y
};
inline Work work(const GluBackwardArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(glu, GluArgs)
GENFAST_TWINS(glu_backward, GluBackwardArgs)

}  // namespace genfast
