#pragma once
#include "../math/diffuse.h"
#include "../math/noise.h"
#include "../math/sum.h"
#include "denoising_loss.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

GENFAST_HD float loss_scale(const float* weight, int64_t r, const Shape& shape) {
  return (weight ? weight[r] : 1.0f) / float(shape.features);
}

template <class T>
struct DenoisingLossBody {
  using Packs = PacksOf<4, 4, 2>;
  static constexpr int kSums = 1;
  DenoisingLossArgs p;
  struct Row {
    const T* net;
    const float* x0;
    T* residual;
    NoiseRow noise;
    Target target;
    template <class Tile>
    GENFAST_HD Terms<typename Tile::Values> operator()(const Tile& tile) const {
      auto r = tile.load(net);
      const auto x = tile.load(x0);
      const auto z = tile.normal(noise);
      for (int k = 0; k < r.kParts; ++k) r.v[k] = r.v[k] - target(x.v[k], z.v[k]);
      if (residual) tile.store(residual, r);
      for (int k = 0; k < r.kParts; ++k) r.v[k] = r.v[k] * r.v[k];
      tile.clear_tail(r);
      return {{r}};
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {static_cast<const T*>(p.net),
            p.x0,
            static_cast<T*>(p.residual),
            noise_row(p.keys, r, p.stream),
            {p.p[r], p.q[r]}};
  }
  GENFAST_HD void finish(int64_t r, const float* sum) const { p.loss[r] = loss_scale(p.weight, r, p.shape) * *sum; }
};

template <class T>
struct DenoisingLossBackwardBody {
  using Packs = PacksOf<2, 16 / sizeof(T)>;
  DenoisingLossBackwardArgs p;
  struct Row {
    const T* residual;
    T* grad_net;
    float* grad_x0;
    float scale, minus_p;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto g = tile.load(residual);
      for (int k = 0; k < g.kParts; ++k) g.v[k] = all(scale) * g.v[k];
      tile.store(grad_net, g);
      if (grad_x0) {
        for (int k = 0; k < g.kParts; ++k) g.v[k] = all(minus_p) * g.v[k];
        tile.store(grad_x0, g);
      }
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {static_cast<const T*>(p.residual), static_cast<T*>(p.grad_net), p.grad_x0,
            2.0f * p.grad[r] * loss_scale(p.weight, r, p.shape), p.grad_x0 ? -p.p[r] : 0.0f};
  }
};

}  // namespace genfast::inline GENFAST_ISA
