#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// y = act(x + bias); `act` as in math/activation.h.
struct BiasActArgs {
  void* y;            // [batch, features], of `dtype`
  const void* x;      // [batch, features], of `dtype`
  const float* bias;  // [features], or null: zeros
  DType dtype;
  int act;
  Shape shape;
};
inline Work work(const BiasActArgs& p) { return units_of_work(p.shape); }

struct BiasActBackwardArgs {
  void* grad_x;  // [batch, features], of `dtype`, as are
  const void *x, *grad_y;
  const float* bias;
  DType dtype;
  int act;
  Shape shape;
};
inline Work work(const BiasActBackwardArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(bias_act, BiasActArgs)
GENFAST_TWINS(bias_act_backward, BiasActBackwardArgs)

}  // namespace genfast
