#pragma once
#include "../math/noise.h"
#include "dropout.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

// y = scale x where u >= p, with u of each row's key; 0 elsewhere, whatever x is.
template <class T>
struct DropoutBody {
  using Packs = PacksOf<2, 16 / sizeof(T)>;
  DropoutArgs p;
  struct Row {
    T* y;
    const T* x;
    float least, scale;
    NoiseRow noise;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto out = tile.load(x);
      const auto u = tile.uniform(noise);
      for (int k = 0; k < out.kParts; ++k) out.v[k] = u.v[k] >= all(least) ? out.v[k] * all(scale) : all(0.0f);
      tile.store(y, out);
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {static_cast<T*>(p.y), static_cast<const T*>(p.x), p.p, p.scale, noise_row(p.keys, r, p.stream)};
  }
};

}  // namespace genfast::inline GENFAST_ISA
