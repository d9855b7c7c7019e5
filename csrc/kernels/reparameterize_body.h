#pragma once
#include "../math/noise.h"
#include "../math/reparameterize.h"
#include "../math/sum.h"
#include "packs.h"
#include "reparameterize.h"

namespace genfast::inline GENFAST_ISA {

template <class T>
struct ReparameterizeBody {
  using Packs = PacksOf<2, 4, 2>;
  static constexpr int kSums = 1;
  ReparameterizeArgs p;
  struct Row {
    T* z;
    const T *mu, *logvar;
    NoiseRow noise;
    template <class Tile>
    GENFAST_HD Terms<typename Tile::Values> operator()(const Tile& tile) const {
      auto m = tile.load(mu);
      const auto l = tile.load(logvar);
      auto out = tile.normal(noise);
      for (int k = 0; k < m.kParts; ++k) {
        const Posterior q(m.v[k], l.v[k]);
        out.v[k] = q.draw(out.v[k]);
        m.v[k] = q.divergence();
      }
      tile.store(z, out);
      tile.clear_tail(m);
      return {{m}};
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {static_cast<T*>(p.z), static_cast<const T*>(p.mu), static_cast<const T*>(p.logvar),
            noise_row(p.keys, r, p.stream)};
  }
  GENFAST_HD void finish(int64_t r, const float* sum) const { p.kl[r] = *sum; }
};

template <class T>
struct ReparameterizeBackwardBody {
  using Packs = PacksOf<sizeof(T) == 4 ? 2 : 1, 16 / sizeof(T), 2>;
  ReparameterizeBackwardArgs p;
  struct Row {
    T *grad_mu, *grad_logvar;
    const T *grad_z, *mu, *logvar;
    float grad_kl;
    NoiseRow noise;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto m = tile.load(mu);
      auto l = tile.load(logvar);
      const auto dz = tile.load(grad_z);
      const auto eps = tile.normal(noise);
      for (int k = 0; k < m.kParts; ++k) {
        const Posterior q(m.v[k], l.v[k]);
        m.v[k] = q.slope_in_mu(dz.v[k], grad_kl);
        l.v[k] = q.slope_in_l(dz.v[k], grad_kl, eps.v[k]);
      }
      tile.store(grad_mu, m);
      tile.store(grad_logvar, l);
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {static_cast<T*>(p.grad_mu),    static_cast<T*>(p.grad_logvar),  static_cast<const T*>(p.grad_z),
            static_cast<const T*>(p.mu),   static_cast<const T*>(p.logvar), p.grad_kl[r],
            noise_row(p.keys, r, p.stream)};
  }
};

}  // namespace genfast::inline GENFAST_ISA
