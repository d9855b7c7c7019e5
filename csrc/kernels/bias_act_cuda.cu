#include "bias_act_body.h"
#include "map.cuh"

namespace genfast::cuda {

const char* bias_act(const BiasActArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type_and_act(p, [&](auto type, auto act) {
    error = map(p.shape, aligned(p.x, p.y, p.bias), BiasActBody<decltype(type), decltype(act)>{p}, stream);
  });
  return error;
}

const char* bias_act_backward(const BiasActBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type_and_act(p, [&](auto type, auto act) {
    error = map(p.shape, aligned(p.x, p.grad_x, p.grad_y, p.bias),
                BiasActBackwardBody<decltype(type), decltype(act)>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
