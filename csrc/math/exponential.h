#pragma once
// e^-x in float64, of IEEE operations only.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// c0 + x (c1 + x (...)), Horner, each operation rounded.
GENFAST_HD double series(double, double c) { return c; }
template <class... Cs>
GENFAST_HD double series(double x, double c, Cs... cs) {
  return c + x * series(x, cs...);
}

// x >= 0, held to 700, where it is 1e-304.  2^n e^r = e^-x with |r| <= log(2) / 2, by Taylor's series: relative error
// 1e-14.
GENFAST_HD double exp_of_minus(double x) {
  const double minus = x > 700.0 ? -700.0 : -x, round = 0x1.8p52;
  const double shifted = minus * 1.4426950408889634 + round, n = shifted - round;  // n: the low bits of `shifted`
  const double r = (minus - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  const double power = series(r, 1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0,
                              1.0 / 40320.0, 1.0 / 362880.0, 1.0 / 3628800.0, 1.0 / 39916800.0, 1.0 / 479001600.0);
  return std::bit_cast<double>(std::bit_cast<uint64_t>(power) + (std::bit_cast<uint64_t>(shifted) << 52));
}

}  // namespace genfast::inline GENFAST_ISA
