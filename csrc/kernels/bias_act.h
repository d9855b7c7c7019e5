#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// y = act(x + bias); `act` as in math/activation.h.
struct BiasActArgs {
  void* y;        // [batch, features], of `dtype`
  const void* x;  // [batch, features], of `dtype`
  Small bias;     // [features]; null: zeros
  DType dtype;
  int act;
  Shape shape;
};
inline Work work(const BiasActArgs& p) { return units_of_work(p.shape); }

// parts: the sums of grad_x, as it is stored, over the rows of a unit, 64 of them, in order.
struct BiasActBackwardArgs {
  void* grad_x;  // [batch, features], of `dtype`, as are
  const void *x, *grad_y;
  const float* bias;
  float* parts;  // [units, features], or null
  DType dtype;
  int act;
  Shape shape;
  constexpr int64_t units() const { return (shape.batch + kUnit - 1) / kUnit; }
  constexpr Shape of_parts() const { return {units(), shape.features, 1}; }
  // Of a unit, each some columns: with few units more of them, for the threads of a CPU.
  constexpr int64_t columns() const { return units() < 16 ? 512 : 4096; }
  constexpr int64_t pieces() const { return (shape.features + columns() - 1) / columns(); }
};
inline Work work(const BiasActBackwardArgs& p) {
  return p.parts ? Work{p.units() * p.pieces(), 1} : units_of_work(p.shape);
}

GENFAST_TWINS(bias_act, BiasActArgs)
GENFAST_TWINS(bias_act_backward, BiasActBackwardArgs)

}  // namespace genfast
