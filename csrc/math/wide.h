#pragma once
// Lanes of float64: half as many as of float32.
#include "number.h"

namespace genfast::inline GENFAST_ISA {

#if GENFAST_LANES == 1

using D = double;
GENFAST_HD D all(double a) { return a; }
GENFAST_HD D fma_(D a, D b, D c) { return fma(a, b, c); }
GENFAST_HD D load_lane(const double* p) { return *p; }
GENFAST_HD void store_lane(double* p, D a) { *p = a; }

#elif GENFAST_LANES == 8

typedef double D __attribute__((vector_size(32)));
GENFAST_HD D all(double a) { return (D)_mm256_set1_pd(a); }
GENFAST_HD D fma_(D a, D b, D c) { return (D)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
GENFAST_HD D load_lane(const double* p) { return (D)_mm256_loadu_pd(p); }
GENFAST_HD void store_lane(double* p, D a) { _mm256_storeu_pd(p, (__m256d)a); }

#else

typedef double D __attribute__((vector_size(64)));
GENFAST_HD D all(double a) { return (D)_mm512_set1_pd(a); }
GENFAST_HD D fma_(D a, D b, D c) { return (D)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
GENFAST_HD D load_lane(const double* p) { return (D)_mm512_loadu_pd(p); }
GENFAST_HD void store_lane(double* p, D a) { _mm512_storeu_pd(p, (__m512d)a); }

#endif

}  // namespace genfast::inline GENFAST_ISA
