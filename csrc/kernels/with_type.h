#pragma once
#include "../math/number.h"
#include "types.h"

namespace genfast::inline GENFAST_ISA {

// with_type(dtype, f) calls f(T{}) with the type of memory that dtype names.
template <class Function>
inline void with_type(DType dtype, Function f) {
  switch (dtype) {
    case DType::bfloat16:
      return f(BFloat16{});
    case DType::float16:
      return f(Half{});
    default:
      return f(float{});
  }
}

}  // namespace genfast::inline GENFAST_ISA
