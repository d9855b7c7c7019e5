#pragma once
// Activations and their slopes, of IEEE operations only, so that every lane and the GPU give the same bits.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// e^(sign x) = 2^n 2^r with n + r = x log2(e): adding 1.5 * 2^23 rounds to n, and leaves it in the low bits.  2^r by a
// minimax polynomial on [-1/2, 1/2].  Relative error below 2e-7 + 2e-8 |x|; the exponent is held to [-87, 87].
template <int sign = 1>
GENFAST_HD F exp_(F x) {
  x = at_most(at_least(x, all(-87.0f)), all(87.0f));
  const F log2e = all(sign * 1.4426950216293335f), shifted = fma_(x, log2e, all(12582912.0f));
  const F r = fma_(x, log2e, all(12582912.0f) - shifted);
  const F power = poly(r, 1.0f, 0.6931470036506653f, 0.24022240936756134f, 0.0555073507130146f, 0.009671619161963463f,
                       0.0013264591107144952f);
  return as_float(as_uint(power) + (as_uint(shifted) << 23));
}

// 1 / sigmoid(x)
GENFAST_HD F one_plus_exp_of_minus(F x) { return all(1.0f) + exp_<-1>(x); }
GENFAST_HD F sigmoid(F x) { return all(1.0f) / one_plus_exp_of_minus(x); }

// Each activation: y(u), and slope(u) = dy/du.
struct Identity {
  GENFAST_HD static F value(F u) { return u; }
  GENFAST_HD static F slope(F) { return all(1.0f); }
};

// u sigmoid(u)
struct Silu {
  GENFAST_HD static F value(F u) { return u / one_plus_exp_of_minus(u); }
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
    return all(0.5f) * exp_<-1>(a * q);
  }
  GENFAST_HD static F magnitude(F u) { return as_float(as_uint(u) & 0x7fffffffu); }
  GENFAST_HD static F distribution(F u) {  // Phi(u) = 1/2 +- (1/2 - Phi(-a))
    const F sign = as_float((as_uint(u) & 0x80000000u) | as_uint(all(1.0f)));
    return fma_(sign, all(0.5f) - lower(magnitude(u)), all(0.5f));
  }
  GENFAST_HD static F value(F u) {  // max(u, 0) - a Phi(-a)
    const F a = magnitude(u);
    return fma_(-a, lower(a), at_least(u, all(0.0f)));
  }
  GENFAST_HD static F slope(F u) {
    return fma_(u * all(0.3989422804f), exp_<-1>(all(0.5f) * (u * u)), distribution(u));
  }
};

// u (1 + tanh w) / 2 = u sigmoid(2 w), w = sqrt(2 / pi) (u + 0.044715 u^3)
struct GeluTanh {
  GENFAST_HD static F twice_w(F u) { return u * fma_(u * u, all(0.0713548162726f), all(1.5957691216057f)); }
  GENFAST_HD static F value(F u) { return u / one_plus_exp_of_minus(twice_w(u)); }
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
