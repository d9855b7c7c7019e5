#pragma once
#include "../math/lane.h"
#include "average.h"

namespace genfast::inline GENFAST_ISA {

// average + weight (value - average), from the nearer end, as torch.lerp has it.  A weight of 1 makes it the value,
// whatever the average was; for one that is not above 0 nobody asks: the average stays, whatever the value is.
struct Toward {
  Floats factor;
  bool small, whole;

  GENFAST_HD explicit Toward(float weight)
      : factor(all(weight < 0.5f ? weight : weight - 1.0f)), small(weight < 0.5f), whole(weight == 1.0f) {}
  GENFAST_HD Floats operator()(Floats average, Floats value) const {
    return whole ? value : fma_(factor, value - average, small ? average : value);
  }
};

}  // namespace genfast::inline GENFAST_ISA
