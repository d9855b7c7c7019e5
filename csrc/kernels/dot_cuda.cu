#include "dot_body.h"
#include "reduce.cuh"

namespace genfast::cuda {

const char* dot(const DotArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.dtype, [&](auto type) {
    error = reduce(p.shape, aligned(p.a, p.b), DotBody<decltype(type)>{p}, p.partial, stream);
  });
  return error;
}

}  // namespace genfast::cuda
