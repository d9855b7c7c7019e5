#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

enum class Distribution : int32_t { normal, uniform };

struct NoiseArgs {
  void* out;  // [batch, features], of `dtype`
  DType dtype;
  Distribution distribution;
  Keys keys;        // [batch, 2]
  uint32_t stream;  // step << 8 | purpose
  Shape shape;
};
inline Work work(const NoiseArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(noise, NoiseArgs)

}  // namespace genfast
