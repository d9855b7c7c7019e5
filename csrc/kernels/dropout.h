#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// Its own backward: it is linear, and diagonal.
struct DropoutArgs {
  void* y;        // [batch, features], of `dtype`
  const void* x;  // [batch, features], of `dtype`
  DType dtype;
  float p, scale;  // scale = 1 / (1 - p)
  Keys keys;       // [batch, 2]
  uint32_t stream;
  Shape shape;
};
inline Work work(const DropoutArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(dropout, DropoutArgs)

}  // namespace genfast
