#pragma once
#include "../math/diffuse.h"
#include "../math/noise.h"
#include "denoising_loss.h"

namespace genfast::inline GENFAST_ISA {

// net - (p x0 + q z) of a row, the noise made anew.
template <class T>
struct Residual {
  const T* net;
  const float* x0;
  NoiseRow noise;
  Target target;
  GENFAST_HD Residual(const DenoisingLossArgs& p, int64_t r)
      : net(static_cast<const T*>(p.net)), x0(p.x0), noise(noise_row(p.keys, r, p.stream)), target{p.p[r], p.q[r]} {}
  template <class Tile>
  GENFAST_HD typename Tile::Values operator()(const Tile& tile) const {
    auto out = tile.load(net);
    const auto x = tile.load(x0);
    const auto z = tile.normal(noise);
    for (int k = 0; k < out.kParts; ++k) out.v[k] = out.v[k] - target(x.v[k], z.v[k]);
    return out;
  }
};

GENFAST_HD float loss_scale(const DenoisingLossArgs& p, int64_t r) {
  return (p.weight ? p.weight[r] : 1.0f) / float(p.shape.features);
}

template <class T>
struct DenoisingLossBody {
  DenoisingLossArgs p;
  struct Row {
    Residual<T> residual;
    template <class Tile>
    GENFAST_HD typename Tile::Values operator()(const Tile& tile) const {
      auto r = residual(tile);
      for (int k = 0; k < r.kParts; ++k) r.v[k] = r.v[k] * r.v[k];
      tile.clear_tail(r);
      return r;
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {{p, r}}; }
  GENFAST_HD void finish(int64_t r, float sum) const { p.loss[r] = loss_scale(p, r) * sum; }
};

template <class T>
struct DenoisingLossBackwardBody {
  DenoisingLossBackwardArgs p;
  struct Row {
    Residual<T> residual;
    T* grad_net;
    float* grad_x0;
    float scale, minus_p;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto g = residual(tile);
      for (int k = 0; k < g.kParts; ++k) g.v[k] = all(scale) * g.v[k];
      tile.store(grad_net, g);
      if (grad_x0) {
        for (int k = 0; k < g.kParts; ++k) g.v[k] = all(minus_p) * g.v[k];
        tile.store(grad_x0, g);
      }
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {{p.forward, r}, static_cast<T*>(p.grad_net), p.grad_x0, 2.0f * p.grad[r] * loss_scale(p.forward, r),
            -p.forward.p[r]};
  }
};

}  // namespace genfast::inline GENFAST_ISA
