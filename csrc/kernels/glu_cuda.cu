#include "flat.cuh"
#include "glu_body.h"

namespace genfast::cuda {

const char* glu(const GluArgs& p, Stream stream) {
  const char* error = nullptr;
  with_glu(p, [&](auto type, auto kind) {
    error =
        flat_map<decltype(type)>(p.shape, aligned(p.x, p.y), GluBody<decltype(type), decltype(kind)::value>{p}, stream);
  });
  return error;
}

const char* glu_backward(const GluBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  with_glu(p, [&](auto type, auto kind) {
    error = flat_map<decltype(type)>(p.shape, aligned(p.x, p.grad_x, p.grad_y),
                                     GluBackwardBody<decltype(type), decltype(kind)::value>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
