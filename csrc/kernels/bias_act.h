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

// parts: [units, features] = sums over the rows of a unit, 64 of them, in order.
struct BiasSumsArgs {
  float* parts;
  const void* grad_x;  // [batch, features], of `dtype`
  DType dtype;
  Shape shape;
  constexpr int64_t units() const { return (shape.batch + kUnit - 1) / kUnit; }
};
inline Work work(const BiasSumsArgs& p) { return {p.units(), kGrain / (kUnit * p.shape.features + 1)}; }

GENFAST_TWINS(bias_act, BiasActArgs)
GENFAST_TWINS(bias_act_backward, BiasActBackwardArgs)
GENFAST_TWINS(bias_sums, BiasSumsArgs)

}  // namespace genfast
