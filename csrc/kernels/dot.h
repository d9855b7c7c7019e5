#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct DotArgs {
  float* out;         // [batch]: sum_i a_i b_i
  float* partial;     // [batch, chunks] scratch of the CUDA twin; `out` itself where there is one chunk
  const void *a, *b;  // [batch, features] of `dtype`
  DType dtype;
  Shape shape;
};
inline Work work(const DotArgs& p) { return rows_of_work(p.shape); }

GENFAST_TWINS(dot, DotArgs)

}  // namespace genfast
