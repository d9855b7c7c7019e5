#include "map.cuh"
#include "residual_body.h"

namespace genfast::cuda {

const char* residual(const ResidualArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.dtype, [&](auto type) {
    error = map(p.shape, aligned(p.out, p.x, p.y, p.bias), ResidualBody<decltype(type)>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
