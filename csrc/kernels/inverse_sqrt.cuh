#pragma once
// 1 / sqrt(a) by one instruction of a GPU, to 2 units in the last place.
#include <cmath>

#include "../math/lane.h"

namespace genfast::inline GENFAST_ISA {

GENFAST_HD float inverse_sqrt(float a) {
#if defined(__CUDA_ARCH__)
  return rsqrtf(a);
#else
  return 1.0f / sqrtf(a);
#endif
}

}  // namespace genfast::inline GENFAST_ISA
