#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// Running averages of many tensors, of each with several weights.  The tables lie on the host; units are counted
// through all tensors, each of which begins with a new one.
struct AverageArgs {
  float* const* averages;      // [tensors]: pointers to [lengths, size], with the stride below between lengths
  const float* const* values;  // [tensors]: pointers to [size]
  const int64_t *sizes, *strides;
  const int64_t* starts;  // [tensors + 1]: units before each tensor
  const float* weights;   // [lengths]
  int64_t lengths, tensors;
};
inline Work work(const AverageArgs& p) { return {p.starts[p.tensors], kGrain / kUnit}; }

GENFAST_TWINS(average, AverageArgs)

}  // namespace genfast
