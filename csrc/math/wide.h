#pragma once
// Doubles, lanes of float64: half as many as of float32.
#include "number.h"

namespace genfast::inline GENFAST_ISA {

#if GENFAST_LANES == 1

using Doubles = double;
GENFAST_HD Doubles all(double a) { return a; }
GENFAST_HD Doubles fma_(Doubles a, Doubles b, Doubles c) { return fma(a, b, c); }
GENFAST_HD Doubles load_lane(const double* p) { return *p; }
GENFAST_HD void store_lane(double* p, Doubles a) { *p = a; }
GENFAST_HD Doubles floor_(Doubles a) { return floor(a); }

#elif GENFAST_LANES == 8

typedef double Doubles __attribute__((vector_size(32)));
GENFAST_HD Doubles all(double a) { return (Doubles)_mm256_set1_pd(a); }
GENFAST_HD Doubles fma_(Doubles a, Doubles b, Doubles c) {
  return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
GENFAST_HD Doubles load_lane(const double* p) { return (Doubles)_mm256_loadu_pd(p); }
GENFAST_HD void store_lane(double* p, Doubles a) { _mm256_storeu_pd(p, (__m256d)a); }
GENFAST_HD Doubles floor_(Doubles a) { return (Doubles)_mm256_floor_pd((__m256d)a); }

#else

typedef double Doubles __attribute__((vector_size(64)));
GENFAST_HD Doubles all(double a) { return (Doubles)_mm512_set1_pd(a); }
GENFAST_HD Doubles fma_(Doubles a, Doubles b, Doubles c) {
  return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
GENFAST_HD Doubles load_lane(const double* p) { return (Doubles)_mm512_loadu_pd(p); }
GENFAST_HD void store_lane(double* p, Doubles a) { _mm512_storeu_pd(p, (__m512d)a); }
GENFAST_HD Doubles floor_(Doubles a) { return (Doubles)_mm512_floor_pd((__m512d)a); }

#endif

}  // namespace genfast::inline GENFAST_ISA
