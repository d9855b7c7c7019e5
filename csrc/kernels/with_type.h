#pragma once
#include <type_traits>

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

// use(row) with where the row of a sample begins, as floats or as what the tensor is made of, T.
template <class T, class Use>
GENFAST_HD auto with_row(const Small& small, int64_t sample, Use use) {
  if (!std::is_same_v<T, float> && small.narrow) return use(static_cast<const T*>(small.data) + sample * small.stride);
  return use(static_cast<const float*>(small.data) + sample * small.stride);
}

}  // namespace genfast::inline GENFAST_ISA
