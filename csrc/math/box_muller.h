#pragma once
// Normal numbers from random bits, of IEEE operations only: the same bits on every lane and on a GPU.
#include "angle.h"

namespace genfast::inline GENFAST_ISA {

// The square root, correctly rounded, of a number in [1e-30, 45]: on a GPU the instructions of its own sqrt, without
// the way round for numbers below 2^-101, which this one cannot be (tests/long/roots.cpp).
GENFAST_HD Floats root_within(Floats a) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(a));
  const float g = a * y, h = 0.5f * y;
  return fmaf(fmaf(-g, g, a), h, g);
#else
  return sqrt_(a);
#endif
}

// Box-Muller: two words of random bits to two independent N(0, 1) values, at most 6.77 in magnitude.
// Radius: u = (r1 + 1/2) / 2^32 in (0, 1], L = -ln u by a minimax polynomial of -ln(1 + f)/f on [sqrt(1/2), sqrt(2)),
// relative error 2.7e-8.  Angle: the low 30 bits of r2 in [-pi/4, pi/4]; turned by 45 degrees, (c - s, c + s) absorb
// the sqrt(2) of sqrt(2 L), and the two leftover bits are the signs.  Absolute error below 7e-7.
GENFAST_HD void box_muller(Uints r1, Uints r2, Floats& first, Floats& second) {
  const Floats u = fma_(to_float(r1), all(0x1p-32f), all(0x1p-33f));
  const Uints bits = as_uint(u);
  const Ints e = (Ints)(bits - 0x3f3504f3u) >> 23;
  const Floats f = as_float(bits - ((Uints)e << 23)) - all(1.0f);
  const Floats p =
      poly(f, -1.0f, 0.49999988079071045f, -0.3333418369293213f, 0.2500215470790863f, -0.19956977665424347f,
           0.16560696065425873f, -0.14949095249176025f, 0.14377330243587494f, -0.08743945509195328f);
  const Floats radius = root_within(at_least(fma_(p, f, to_float(e) * all(-0.693147180559945f)), all(1e-30f)));
  Floats s, c;
  sine_cosine(to_float((Ints)(r2 << 2)) * all(3.6572951981679e-10f), s, c);  // (pi / 4) 2^-31
  first = as_float(as_uint(radius * (c - s)) ^ (r2 & 0x80000000u));
  second = as_float(as_uint(radius * (c + s)) ^ ((r2 << 1) & 0x80000000u));
}

}  // namespace genfast::inline GENFAST_ISA
