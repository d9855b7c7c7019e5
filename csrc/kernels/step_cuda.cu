#include "map.cuh"
#include "step_body.h"

namespace genfast::cuda {

const char* step(const StepArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.x, p.y, p.history, p.net, p.unconditional);
  with_type(p.dtype, [&](auto type) {
    if (p.history)
      error = map(p.shape, are_aligned, StepBody<decltype(type), true>{p}, stream);
    else
      error = map(p.shape, are_aligned, StepBody<decltype(type), false>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
