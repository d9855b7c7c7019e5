#include "diffuse_body.h"
#include "map.cuh"

namespace genfast::cuda {

const char* diffuse(const DiffuseArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.y, p.target, p.x0);
  with_type(p.dtype, [&](auto type) {
    if (p.target)
      error = map(p.shape, are_aligned, DiffuseBody<decltype(type), true>{p}, stream);
    else
      error = map(p.shape, are_aligned, DiffuseBody<decltype(type), false>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
