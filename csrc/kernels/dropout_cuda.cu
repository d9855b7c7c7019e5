#include "dropout_body.h"
#include "map.cuh"

namespace genfast::cuda {

const char* dropout(const DropoutArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.dtype,
            [&](auto type) { error = map(p.shape, aligned(p.y, p.x), DropoutBody<decltype(type)>{p}, stream); });
  return error;
}

}  // namespace genfast::cuda
