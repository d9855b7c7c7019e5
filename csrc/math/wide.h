#pragma once
// Doubles, lanes of float64: half as many as of float32, so that two of them, or a single one, go with Floats.
#include "number.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kHalves = kLanes == 1 ? 1 : 2;

#if GENFAST_LANES == 1

using Doubles = double;
GENFAST_HD Doubles all(double a) { return a; }
GENFAST_HD Doubles fma_(Doubles a, Doubles b, Doubles c) { return fma(a, b, c); }
GENFAST_HD Doubles load_lane(const double* p) { return *p; }
GENFAST_HD void store_lane(double* p, Doubles a) { *p = a; }
GENFAST_HD Doubles floor_(Doubles a) { return floor(a); }
GENFAST_HD Floats to_floats(const Doubles (&a)[kHalves]) { return float(a[0]); }
GENFAST_HD Uints to_uints(const Doubles (&a)[kHalves]) { return uint32_t(int32_t(a[0])); }

#elif GENFAST_LANES == 8

typedef double Doubles __attribute__((vector_size(32)));
GENFAST_HD Doubles all(double a) { return (Doubles)_mm256_set1_pd(a); }
GENFAST_HD Doubles fma_(Doubles a, Doubles b, Doubles c) {
  return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
GENFAST_HD Doubles load_lane(const double* p) { return (Doubles)_mm256_loadu_pd(p); }
GENFAST_HD void store_lane(double* p, Doubles a) { _mm256_storeu_pd(p, (__m256d)a); }
GENFAST_HD Doubles floor_(Doubles a) { return (Doubles)_mm256_floor_pd((__m256d)a); }
GENFAST_HD Floats to_floats(const Doubles (&a)[kHalves]) {
  return (Floats)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)a[1]), _mm256_cvtpd_ps((__m256d)a[0]));
}
GENFAST_HD Uints to_uints(const Doubles (&a)[kHalves]) {
  return (Uints)_mm256_set_m128i(_mm256_cvttpd_epi32((__m256d)a[1]), _mm256_cvttpd_epi32((__m256d)a[0]));
}

#else

typedef double Doubles __attribute__((vector_size(64)));
GENFAST_HD Doubles all(double a) { return (Doubles)_mm512_set1_pd(a); }
GENFAST_HD Doubles fma_(Doubles a, Doubles b, Doubles c) {
  return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
GENFAST_HD Doubles load_lane(const double* p) { return (Doubles)_mm512_loadu_pd(p); }
GENFAST_HD void store_lane(double* p, Doubles a) { _mm512_storeu_pd(p, (__m512d)a); }
GENFAST_HD Doubles floor_(Doubles a) { return (Doubles)_mm512_floor_pd((__m512d)a); }
GENFAST_HD Floats to_floats(const Doubles (&a)[kHalves]) {
  const __m512 low = _mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)a[0]));
  return (Floats)_mm512_insertf32x8(low, _mm512_cvtpd_ps((__m512d)a[1]), 1);
}
GENFAST_HD Uints to_uints(const Doubles (&a)[kHalves]) {
  const __m512i low = _mm512_castsi256_si512(_mm512_cvttpd_epi32((__m512d)a[0]));
  return (Uints)_mm512_inserti32x8(low, _mm512_cvttpd_epi32((__m512d)a[1]), 1);
}

#endif

}  // namespace genfast::inline GENFAST_ISA
