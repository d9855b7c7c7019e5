#pragma once
#include "../math/noise.h"
#include "noise.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

// out = z or u of each row's key.
template <class T, Distribution distribution>
struct NoiseBody {
  using Packs = PacksOf<4, 4, 4>;
  NoiseArgs p;
  struct Row {
    T* out;
    NoiseRow noise;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      if constexpr (distribution == Distribution::normal)
        tile.store(out, tile.normal(noise));
      else
        tile.store(out, tile.uniform(noise));
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {static_cast<T*>(p.out), noise_row(p.keys, r, p.stream)}; }
};

}  // namespace genfast::inline GENFAST_ISA
