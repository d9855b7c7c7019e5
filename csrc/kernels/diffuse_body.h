#pragma once
#include "../math/diffuse.h"
#include "../math/noise.h"
#include "diffuse.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

template <class T, bool with_target>
struct DiffuseBody {
  using Packs = PacksOf<4, 4, 4>;
  DiffuseArgs p;
  struct Row {
    T* y;
    float* target;
    const float* x0;
    NoiseRow noise;
    Noising noising;
    Target aim;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto x = tile.load(x0);
      auto z = tile.normal(noise);
      decltype(x) out;
      for (int k = 0; k < out.kParts; ++k) out.v[k] = noising(x.v[k], z.v[k]);
      tile.store(y, out);
      if constexpr (with_target) {
        for (int k = 0; k < out.kParts; ++k) out.v[k] = aim(x.v[k], z.v[k]);
        tile.store(target, out);
      }
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {static_cast<T*>(p.y),
            p.target,
            p.x0,
            noise_row(p.keys, r, p.stream),
            {p.alpha[r], p.sigma[r], p.c_in ? p.c_in[r] : 1.0f},
            {with_target ? p.p[r] : 0.0f, with_target ? p.q[r] : 0.0f}};
  }
};

}  // namespace genfast::inline GENFAST_ISA
