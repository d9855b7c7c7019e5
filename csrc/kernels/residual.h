#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// out = scale (x + (y + bias)).  A bias for each row of `shape` is given as `row_bias`, row r having the number
// r % channels; one for each column as `bias`.  At most one of them is there.
struct ResidualArgs {
  void* out;  // [batch, features], of `dtype`, as are
  const void *x, *y;
  Small bias;      // [features], or null
  Small row_bias;  // [channels], or null
  int64_t channels;
  float scale;
  DType dtype;
  Shape shape;
};
inline Work work(const ResidualArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(residual, ResidualArgs)

}  // namespace genfast
