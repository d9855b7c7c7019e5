#include "flat.cuh"
#include "residual_body.h"

namespace genfast::cuda {

const char* residual(const ResidualArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    error = flat_map<T>(p.shape, aligned(p.out, p.x, p.y, p.bias.data), ResidualBody<T>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
