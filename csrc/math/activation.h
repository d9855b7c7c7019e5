#pragma once
// Activations and their slopes, of IEEE operations only, so that every lane and the GPU give the same bits.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// e^x, relative error below 2e-7; x is held to [-87, 88].  2^n e^r with n = round(x / ln 2): adding 1.5 * 2^23 rounds,
// and leaves n in the low bits.  ln 2 is taken off in two parts, the first exact.
GENFAST_HD F exp_(F x) {
  x = at_most(at_least(x, all(-87.0f)), all(88.0f));
  const F shifted = fma_(x, all(1.4426950216293335f), all(12582912.0f)), n = shifted - all(12582912.0f);
  const F r = fma_(n, all(0.00021219444170128554f), fma_(n, all(-0.693359375f), x));
  const F p = poly(r, 0.4999999403953552f, 0.1666651964187622f, 0.041668400168418884f, 0.00836885068565607f,
                   0.0013814320554956794f);
  return as_float(as_uint(fma_(p, r * r, r) + all(1.0f)) + (as_uint(shifted) << 23));
}

GENFAST_HD F sigmoid(F x) { return all(1.0f) / (all(1.0f) + exp_(-x)); }

// Each activation: y(u), and slope(u) = dy/du.
struct Identity {
  GENFAST_HD static F value(F u) { return u; }
  GENFAST_HD static F slope(F) { return all(1.0f); }
};

// u sigmoid(u)
struct Silu {
  GENFAST_HD static F value(F u) { return u / (all(1.0f) + exp_(-u)); }
  GENFAST_HD static F slope(F u) {
    const F s = sigmoid(u);
    return s * fma_(u, all(1.0f) - s, all(1.0f));
  }
};

// u Phi(u), Phi the normal distribution function.  With a = |u|, 2 Phi(-a) = e^(-a q(a)), q a minimax polynomial on
// [0, 9.5]: one formula for the centre and for the tail, where 1 + erf would cancel.
struct Gelu {
  GENFAST_HD static F lower(F a) {  // Phi(-a)
    a = at_most(a, all(9.5f));
    const F q =
        poly(a, 0.7978847622871399f, 0.31830763816833496f, 0.03634297102689743f, -0.0047916872426867485f,
             -3.5614804801298305e-05f, 0.00022281000565271825f, -6.687962013529614e-05f, 1.1672216714941896e-05f,
             -1.323009541920328e-06f, 9.553752278179672e-08f, -3.9896086434509925e-09f, 7.322505796159007e-11f);
    return all(0.5f) * exp_(-(a * q));
  }
  GENFAST_HD static F magnitude(F u) { return as_float(as_uint(u) & 0x7fffffffu); }
  GENFAST_HD static F distribution(F u) {  // Phi(u) = 1/2 +- (1/2 - Phi(-a))
    const F sign = as_float((as_uint(u) & 0x80000000u) | as_uint(all(1.0f)));
    return fma_(sign, all(0.5f) - lower(magnitude(u)), all(0.5f));
  }
  GENFAST_HD static F value(F u) {  // max(u, 0) - a Phi(-a)
    const F a = at_most(magnitude(u), all(9.5f));
    return fma_(-a, lower(a), at_least(u, all(0.0f)));
  }
  GENFAST_HD static F slope(F u) { return fma_(u * all(0.3989422804f), exp_(all(-0.5f) * (u * u)), distribution(u)); }
};

// u (1 + tanh w) / 2 = u sigmoid(2 w), w = sqrt(2 / pi) (u + 0.044715 u^3)
struct GeluTanh {
  GENFAST_HD static F twice_w(F u) { return u * fma_(u * u, all(0.0713548162726f), all(1.5957691216057f)); }
  GENFAST_HD static F value(F u) { return u / (all(1.0f) + exp_(-twice_w(u))); }
  GENFAST_HD static F slope(F u) {
    const F s = sigmoid(twice_w(u)), d = fma_(u * u, all(0.2140644488178f), all(1.5957691216057f));
    return s * fma_(u * d, all(1.0f) - s, all(1.0f));
  }
};

enum class Activation : int { none, silu, gelu, gelu_tanh };

template <class Function>
inline void with_activation(Activation activation, Function f) {
  switch (activation) {
    case Activation::silu:
      return f(Silu{});
    case Activation::gelu:
      return f(Gelu{});
    case Activation::gelu_tanh:
      return f(GeluTanh{});
    default:
      return f(Identity{});
  }
}

}  // namespace genfast::inline GENFAST_ISA
