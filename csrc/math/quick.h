#pragma once
// What networks' ops compute quickly: exponentials, quotients, the larger and the smaller of two.  On a CPU of IEEE
// operations only, so that all lanes give the same bits; a GPU has its own exponential and quotient, for the exact ones
// cost it as much as its memory.
#include "lane.h"

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

}  // namespace genfast::inline GENFAST_ISA
