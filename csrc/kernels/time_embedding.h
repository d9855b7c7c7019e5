#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct TimeEmbeddingArgs {
  void* out;  // [batch, width], of `dtype`: sines, cosines, zeros; with `flip` cosines, sines, zeros
  DType dtype;
  const double* t;            // [batch]
  const double* frequencies;  // [count], radians per unit of t
  int64_t batch, count, width;
  bool flip;
};
inline Work work(const TimeEmbeddingArgs& p) { return {p.batch, kGrain / (p.width + 1)}; }

GENFAST_TWINS(time_embedding, TimeEmbeddingArgs)

}  // namespace genfast
