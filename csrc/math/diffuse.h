#pragma once
// The two affine maps of training: a clean x_0 and noise z to the network's input and to its target.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// y = c_in (alpha x_0 + sigma z): the forward process x_t, scaled for the network.
struct Noising {
  float alpha, sigma, c_in;
  GENFAST_HD Floats operator()(Floats x0, Floats z) const { return all(c_in) * fma_(all(sigma), z, all(alpha) * x0); }
};

// p x_0 + q z: with the right p and q the noise, x_0, v, the score, the flow or EDM's target.
struct Target {
  float p, q;
  GENFAST_HD Floats operator()(Floats x0, Floats z) const { return fma_(all(q), z, all(p) * x0); }
};

}  // namespace genfast::inline GENFAST_ISA
