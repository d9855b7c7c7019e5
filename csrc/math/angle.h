#pragma once
// Sine and cosine of IEEE operations only, so that every lane and the GPU give the same bits.
#include "wide.h"

namespace genfast::inline GENFAST_ISA {

// Of an angle of at most pi / 4: minimax polynomials, absolute error below 6e-8.
GENFAST_HD void sine_cosine(Floats a, Floats& sine, Floats& cosine) {
  const Floats a2 = a * a;
  sine = fma_(poly(a2, -1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f) * a2, a, a);
  cosine = fma_(poly(a2, 4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f) * a2, a2,
                fma_(all(-0.5f), a2, all(1.0f)));
}

// Angles: `quarters` of a turn, 0 to 3, and `rest` radians, at most pi / 4 in magnitude.
struct Angles {
  Floats rest;
  Uints quarters;
};

// t * frequency radians modulo a turn.  The turns are counted and taken off in float64, so that a large t loses
// nothing.  What is not finite has a NaN for its rest.
GENFAST_HD Angles angles(Doubles t, const Doubles (&frequencies)[kHalves]) {
  Doubles rest[kHalves], quarters[kHalves];
  for (int i = 0; i < kHalves; ++i) {
    const Doubles turned = t * (frequencies[i] * all(0.63661977236758138)), whole = floor_(turned + all(0.5));
    const Doubles odd = whole - all(4.0) * floor_(all(0.25) * whole);
    rest[i] = (turned - whole) * all(1.5707963267948966), quarters[i] = odd > all(0.0) ? odd : all(0.0);
  }
  return {to_floats(rest), to_uints(quarters)};
}

GENFAST_HD void sine_cosine(const Angles& a, Floats& sine, Floats& cosine) {
  Floats s, c;
  sine_cosine(a.rest, s, c);
  const Uints odd = a.quarters & 1u;
  sine = as_float(as_uint(odd ? c : s) ^ ((a.quarters & 2u) << 30));
  cosine = as_float(as_uint(odd ? s : c) ^ (((a.quarters + 1u) & 2u) << 30));
}

}  // namespace genfast::inline GENFAST_ISA
