#include "langevin_body.h"
#include "reduce.cuh"

namespace genfast::cuda {

const char* langevin(const LangevinArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.x, p.y, p.net, p.unconditional);
  with_type(p.dtype, [&](auto type) {
    error = reduce(p.shape, are_aligned, LangevinNormsBody<decltype(type)>{p}, p.partial, stream);
    if (!error) error = map(p.shape, are_aligned, LangevinBody<decltype(type)>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
