#pragma once
// Activations and their slopes.  On a CPU of IEEE operations only, so that all lanes give the same bits; a GPU has its
// own exponential and quotient, for the exact ones cost it as much as its memory.
#include <type_traits>

#include "number.h"

namespace genfast::inline GENFAST_ISA {

// 2^n 2^r, n in the low bits of `shifted`, 2^r by a minimax polynomial on [-1/2, 1/2].
GENFAST_HD Floats power_of_two(Floats shifted, Floats r) {
  const Floats power = poly(r, 1.0f, 0.6931470036506653f, 0.24022240936756134f, 0.0555073507130146f,
                            0.009671619161963463f, 0.0013264591107144952f);
  return as_float(as_uint(power) + (as_uint(shifted) << 23));
}
// 2^x for x in [-126, 127]: n + r = x.  Adding 1.5 * 2^23 rounds to n, and leaves it in the low bits.
GENFAST_HD Floats exp2_within(Floats x) {
  const Floats round = all(12582912.0f), shifted = x + round;
  return power_of_two(shifted, x - (shifted - round));
}
// 2^scale e^(sign x) for sign x in [-87, 88]: n + r = sign x log2(e).  Relative error below 2e-7 + 2e-8 |x|.
template <int scale = 0, int sign = 1>
GENFAST_HD Floats exp_within(Floats x) {
  const Floats log2e = all(sign * 1.4426950216293335f), round = all(12582912.0f + scale);
  const Floats shifted = fma_(x, log2e, round);
  return power_of_two(shifted, fma_(x, log2e, round - shifted));
}

#if defined(__CUDA_ARCH__)
// 2^x to 2^-22; 2^scale e^(sign x) to 2^-22 + 2^-24 |x|, of any x: 0 below -87, infinity above 88.
GENFAST_HD Floats quick_exp2(Floats x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
template <int scale = 0, int sign = 1>
GENFAST_HD Floats quick_exp(Floats x) {
  return quick_exp2(fma_(x, sign * 1.4426950408889634f, float(scale)));
}
// a / b to 2^-22, b at least 2^-126.
GENFAST_HD Floats quotient(Floats a, Floats b) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
  return a * inverse;
}
// 1 / sigmoid(x) = 1 + e^-x; then, by one instruction, what at_least and at_most are but for the sign of a zero.
GENFAST_HD Floats one_plus_exp_of_minus(Floats x) { return 1.0f + quick_exp<0, -1>(x); }
GENFAST_HD Floats larger(Floats a, Floats b) {
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
  return a;
}
GENFAST_HD Floats smaller(Floats a, Floats b) {
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
  return a;
}
#else
GENFAST_HD Floats larger(Floats a, Floats b) { return at_least(a, b); }
GENFAST_HD Floats smaller(Floats a, Floats b) { return at_most(a, b); }
GENFAST_HD Floats quick_exp2(Floats x) { return exp2_within(x); }
template <int scale = 0, int sign = 1>
GENFAST_HD Floats quick_exp(Floats x) {
  return exp_within<scale, sign>(x);
}
GENFAST_HD Floats quotient(Floats a, Floats b) { return a / b; }
GENFAST_HD Floats one_plus_exp_of_minus(Floats x) {
  return all(1.0f) + quick_exp<0, -1>(at_most(at_least(x, all(-88.0f)), all(87.0f)));
}
#endif

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
    const Floats h = smaller(larger(u, all(-16.0f)), all(16.0f));  // beyond it is 0 or 1, but u^3 times what is left
    const Floats s = sigmoid(twice_w(h)), d = fma_(h * h, all(0.2140644488178f), all(1.5957691216057f));
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
