#include "bias_act_body.h"
#include "flat.cuh"

namespace genfast::cuda {

const char* bias_act(const BiasActArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type_and_act(p, [&](auto type, auto act) {
    error = flat_map<decltype(type)>(p.shape, aligned(p.x, p.y, p.bias.data),
                                     BiasActBody<decltype(type), decltype(act)>{p}, stream);
  });
  return error;
}

const char* bias_act_backward(const BiasActBackwardArgs& p, Stream stream) {
  const bool are_aligned = aligned(p.x, p.grad_x, p.grad_y, p.bias, p.parts);
  const char* error = nullptr;
  with_type_and_act(p, [&](auto type, auto act) {
    using T = decltype(type);
    using Act = decltype(act);
    if (p.parts)
      error = flat_map<T, 4>(p.of_parts(), are_aligned, BiasActSumsBody<T, Act>{p}, stream);
    else
      error = flat_map<T>(p.shape, are_aligned, BiasActBackwardBody<T, Act>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
