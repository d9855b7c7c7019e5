#pragma once
// Activations and their slopes.
#include <type_traits>

#include "number.h"
#include "quick.h"

namespace genfast::inline GENFAST_ISA {

GENFAST_HD Floats sigmoid(Floats x) { return quotient(all(1.0f), one_plus_exp_of_minus(x)); }

// Each activation: y(u), and slope(u) = dy/du.
struct Identity {
  GENFAST_HD static Floats value(Floats u) { return u; }
  GENFAST_HD static Floats slope(Floats) { return all(1.0f); }
};

// u sigmoid(u)
struct Silu {
  GENFAST_HD static Floats value(Floats u) { return quotient(u, one_plus_exp_of_minus(u)); }
  GENFAST_HD static Floats slope(Floats u) {
    const Floats s = sigmoid(u);
    return s * fma_(u, all(1.0f) - s, all(1.0f));
  }
};

// u Phi(u), Phi the normal distribution function.  With a = |u|, 2 Phi(-a) = e^(a q(a)), q a minimax polynomial on
// [0, 8] for the error of a Phi(-a), 8e-9: one formula for the center and for the tail, where 1 + erf would cancel.
// Where T rounds by 4e-3, a relative error of Phi(-a) of 2.6e-4 is enough: six coefficients, for powers of two.
template <class T>
struct Gelu {
  GENFAST_HD static Floats lower(Floats a) {  // Phi(-a); Phi(-8) is 6e-16
    if constexpr (std::is_same_v<T, BFloat16>)
      return quick_exp2(fma_(a,
                             poly(a, -1.1482504606246948f, -0.46603509783744812f, -0.047567103058099747f,
                                  0.006018844433128834f, -0.00043908177758567f, 1.3686775673704687e-05f),
                             all(-1.0f)));
    return quick_exp<-1>(a * poly(a, -0.7978851795196533f, -0.31830158829689026f, -0.03637316823005676f,
                                  0.004861260298639536f, -5.0992304750252515e-05f, -0.0001598528033355251f,
                                  3.926211502403021e-05f, -4.361928404250648e-06f, 1.9206889589895582e-07f));
  }
  GENFAST_HD static Floats value(Floats u) {  // max(u, 0) - a Phi(-a)
    const Floats a = smaller(abs_(u), all(8.0f));
    return fma_(-a, lower(a), larger(u, all(0.0f)));
  }
  GENFAST_HD static Floats slope(Floats u) {  // Phi(u) + u phi(u)
    const Floats a = smaller(abs_(u), all(8.0f)), l = lower(a), h = as_float(as_uint(a) | (as_uint(u) & 0x80000000u));
    return fma_(h * all(0.3989422804f), quick_exp(all(-0.5f) * (h * h)), u < all(0.0f) ? l : all(1.0f) - l);
  }
};

// u (1 + tanh w) / 2 = u sigmoid(2 w), w = sqrt(2 / pi) (u + 0.044715 u^3)
struct GeluTanh {
  GENFAST_HD static Floats twice_w(Floats u) { return u * fma_(u * u, all(0.0713548162726f), all(1.5957691216057f)); }
  GENFAST_HD static Floats value(Floats u) { return quotient(u, one_plus_exp_of_minus(twice_w(u))); }
  GENFAST_HD static Floats slope(Floats u) {
    const Floats h = smaller(larger(u, all(-9.0f)), all(9.0f));  // beyond it is 0 or 1, but u^3 times what is left
    const Floats s = quotient(all(1.0f), all(1.0f) + quick_exp<0, -1>(twice_w(h)));
    const Floats d = fma_(h * h, all(0.2140644488178f), all(1.5957691216057f));
    return s * fma_(h * d, all(1.0f) - s, all(1.0f));
  }
};

enum class Activation : int { none, silu, gelu, gelu_tanh };

// with_activation<T>(activation, f) is f(Silu{}) and so on, for values of type T.  constexpr: a GPU may call it too.
template <class T, class Function>
constexpr auto with_activation(Activation activation, Function f) {
  switch (activation) {
    case Activation::silu:
      return f(Silu{});
    case Activation::gelu:
      return f(Gelu<T>{});
    case Activation::gelu_tanh:
      return f(GeluTanh{});
    default:
      return f(Identity{});
  }
}

}  // namespace genfast::inline GENFAST_ISA
