#pragma once
// The Gaussian q(z | x) = N(mu, e^l) of a variational autoencoder, l its logarithmic variance: a draw from it, its
// divergence from N(0, 1), and their slopes.
#include "activation.h"

namespace genfast::inline GENFAST_ISA {

// e^(l / 2), l / 2 held to [-87, 88].
GENFAST_HD F deviation(F l) { return exp_within(at_most(at_least(all(0.5f) * l, all(-87.0f)), all(88.0f))); }

// Of one element, s = deviation(l).
struct Posterior {
  F mu, l, s;
  GENFAST_HD Posterior(F mean, F logvar) : mu(mean), l(logvar), s(deviation(logvar)) {}

  // z = mu + s eps
  GENFAST_HD F draw(F eps) const { return fma_(s, eps, mu); }
  // KL = (mu^2 + e^l - 1 - l) / 2
  GENFAST_HD F divergence() const { return all(0.5f) * fma_(mu, mu, fma_(s, s, all(-1.0f)) - l); }
  // The gradients of dz z + dkl KL.
  GENFAST_HD F slope_in_mu(F dz, float dkl) const { return fma_(all(dkl), mu, dz); }
  GENFAST_HD F slope_in_l(F dz, float dkl, F eps) const {
    return all(0.5f) * fma_(dz * eps, s, all(dkl) * fma_(s, s, all(-1.0f)));
  }
};

}  // namespace genfast::inline GENFAST_ISA
