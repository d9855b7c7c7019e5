#pragma once
// The Gaussian q(z | x) = N(mu, e^l) of a variational autoencoder, l its logarithmic variance: a draw from it, its
// divergence from N(0, 1), and their slopes.
#include "quick.h"

namespace genfast::inline GENFAST_ISA {

// e^(l / 2), l / 2 held to [-87, 88].
GENFAST_HD Floats deviation(Floats l) { return exp_within(at_most(at_least(all(0.5f) * l, all(-87.0f)), all(88.0f))); }

// Of one element, s = deviation(l).
struct Posterior {
  Floats mu, l, s;
  GENFAST_HD Posterior(Floats mean, Floats logvar) : mu(mean), l(logvar), s(deviation(logvar)) {}

  // z = mu + s eps
  GENFAST_HD Floats draw(Floats eps) const { return fma_(s, eps, mu); }
  // KL = (mu^2 + e^l - 1 - l) / 2
  GENFAST_HD Floats divergence() const { return all(0.5f) * fma_(mu, mu, fma_(s, s, all(-1.0f)) - l); }
  // The gradients of dz z + dkl KL.
  GENFAST_HD Floats slope_in_mu(Floats dz, float dkl) const { return fma_(all(dkl), mu, dz); }
  GENFAST_HD Floats slope_in_l(Floats dz, float dkl, Floats eps) const {
    return all(0.5f) * fma_(dz * eps, s, all(dkl) * fma_(s, s, all(-1.0f)));
  }
};

}  // namespace genfast::inline GENFAST_ISA
