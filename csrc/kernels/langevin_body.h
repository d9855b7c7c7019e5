#pragma once
#include "../math/noise.h"
#include "../math/step.h"
#include "../math/sum.h"
#include "langevin.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

// sigma^2 g = alpha D - x of a tile, g being the score.
template <class T>
struct ScaledScore {
  float of_x, of_net, w;
  const T *net, *unconditional;  // the latter null where the sample is not guided

  GENFAST_HD ScaledScore(const LangevinArgs& p, int64_t r)
      : of_x(fmaf(p.alpha[r], p.c_skip[r], -1.0f)),
        of_net(p.alpha[r] * p.c_out[r]),
        w(p.unconditional ? p.guidance[r] : 1.0f),
        net(static_cast<const T*>(p.net)),
        unconditional(w != 1.0f ? static_cast<const T*>(p.unconditional) : nullptr) {}

  template <class Tile>
  GENFAST_HD typename Tile::Values operator()(const Tile& tile, const typename Tile::Values& x) const {
    auto score = tile.load(net);
    if (unconditional) {
      const auto u = tile.load(unconditional);
      for (int k = 0; k < score.kParts; ++k) score.v[k] = guided(w, score.v[k], u.v[k]);
    }
    for (int k = 0; k < score.kParts; ++k) score.v[k] = fma_(all(of_net), score.v[k], all(of_x) * x.v[k]);
    return score;
  }
};

// |z|^2 and |sigma^2 g|^2 of a row, and from them how far it moves.
template <class T>
struct LangevinNormsBody {
  using Packs = PacksOf<2, 4, 2>;
  static constexpr int kSums = 2;
  LangevinArgs p;
  struct Row {
    const float* x;
    ScaledScore<T> score;
    NoiseRow noise;
    template <class Tile>
    GENFAST_HD Terms<typename Tile::Values, 2> operator()(const Tile& tile) const {
      auto g = score(tile, tile.load(x));
      auto z = tile.normal(noise);
      for (int k = 0; k < g.kParts; ++k) g.v[k] = g.v[k] * g.v[k], z.v[k] = z.v[k] * z.v[k];
      tile.clear_tail(g);
      tile.clear_tail(z);
      return {{z, g}};
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {p.x, {p, r}, noise_row(p.keys, r, p.stream)}; }
  // With m = snr sigma |z| / |sigma^2 g|: eps g = 2 m^2 sigma^2 g, and sqrt(2 eps) = 2 m sigma.
  GENFAST_HD void finish(int64_t r, const float* sums) const {
    const float m = sums[1] == 0.0f ? 0.0f : p.snr[r] * p.sigma[r] * sqrtf(sums[0] / sums[1]);
    p.gains[2 * r] = 2.0f * m * m;
    p.gains[2 * r + 1] = 2.0f * m * p.sigma[r];
  }
};

template <class T>
struct LangevinBody {
  using Packs = PacksOf<2, 4, 3>;
  LangevinArgs p;
  struct Row {
    float* x;
    T* y;
    ScaledScore<T> score;
    NoiseRow noise;
    float of_score, of_noise, c_in;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto next = tile.load(x);
      const auto g = score(tile, next);
      const auto z = tile.normal(noise);
      for (int k = 0; k < next.kParts; ++k)
        next.v[k] = fma_(all(of_noise), z.v[k], fma_(all(of_score), g.v[k], next.v[k]));
      tile.store(x, next);
      if (y) {
        for (int k = 0; k < next.kParts; ++k) next.v[k] = all(c_in) * next.v[k];
        tile.store(y, next);
      }
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {p.x,
            static_cast<T*>(p.y),
            {p, r},
            noise_row(p.keys, r, p.stream),
            p.gains[2 * r],
            p.gains[2 * r + 1],
            p.c_in ? p.c_in[r] : 1.0f};
  }
};

}  // namespace genfast::inline GENFAST_ISA
