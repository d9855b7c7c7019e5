#include "map.cuh"
#include "noise_body.h"

namespace genfast::cuda {

const char* noise(const NoiseArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.dtype, [&](auto type) {
    if (p.distribution == Distribution::normal)
      error = map(p.shape, aligned(p.out), NoiseBody<decltype(type), Distribution::normal>{p}, stream);
    else
      error = map(p.shape, aligned(p.out), NoiseBody<decltype(type), Distribution::uniform>{p}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
