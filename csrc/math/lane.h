#pragma once
// A lane is what one formula computes on: F floats and U words, 16 of them in an AVX-512 object, 8 in an AVX2 object,
// one in a scalar or CUDA object.  Every formula in math/ is written once in F and U; an object of another instruction
// set compiles it again in an inline namespace of its own, so that the linker never mixes them.
// All operations here are IEEE operations or integer ones: every lane, and the GPU, gives the same bits.
#include <bit>
#include <cmath>
#include <cstdint>
#if GENFAST_LANES > 1
#include <immintrin.h>
#endif

#if defined(__CUDACC__)
#define GENFAST_HD __host__ __device__ __forceinline__
#define GENFAST_UNROLL _Pragma("unroll")
#define GENFAST_NO_UNROLL _Pragma("unroll 1")
#else
#define GENFAST_HD inline __attribute__((always_inline))
#define GENFAST_UNROLL _Pragma("GCC unroll 16")
#define GENFAST_NO_UNROLL _Pragma("GCC unroll 1")
#endif

namespace genfast::inline GENFAST_ISA {

constexpr int kLanes = GENFAST_LANES;

#if GENFAST_LANES == 1

using F = float;
using U = uint32_t;
using I = int32_t;
GENFAST_HD F all(float a) { return a; }
GENFAST_HD F as_float(U u) { return std::bit_cast<float>(u); }
GENFAST_HD U as_uint(F f) { return std::bit_cast<uint32_t>(f); }
GENFAST_HD F to_float(U u) { return static_cast<float>(u); }  // round to nearest
GENFAST_HD F to_float(I i) { return static_cast<float>(i); }
GENFAST_HD F fma_(F a, F b, F c) { return fmaf(a, b, c); }
GENFAST_HD F sqrt_(F a) { return sqrtf(a); }

#elif GENFAST_LANES == 8

typedef float F __attribute__((vector_size(32)));
typedef uint32_t U __attribute__((vector_size(32)));
typedef int32_t I __attribute__((vector_size(32)));
GENFAST_HD F all(float a) { return (F)_mm256_set1_ps(a); }
GENFAST_HD F as_float(U u) { return (F)u; }
GENFAST_HD U as_uint(F f) { return (U)f; }
GENFAST_HD F to_float(I i) { return (F)_mm256_cvtepi32_ps((__m256i)i); }
GENFAST_HD F fma_(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
GENFAST_HD F sqrt_(F a) { return (F)_mm256_sqrt_ps((__m256)a); }
// AVX2 has no conversion from unsigned; both halves are exact, so the one rounding is that of the fma.
GENFAST_HD F to_float(U u) { return fma_(to_float((I)(u >> 16)), all(65536.0f), to_float((I)(u & 0xffffu))); }

#elif GENFAST_LANES == 16

typedef float F __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
GENFAST_HD F all(float a) { return (F)_mm512_set1_ps(a); }
GENFAST_HD F as_float(U u) { return (F)u; }
GENFAST_HD U as_uint(F f) { return (U)f; }
GENFAST_HD F to_float(U u) { return (F)_mm512_cvtepu32_ps((__m512i)u); }
GENFAST_HD F to_float(I i) { return (F)_mm512_cvtepi32_ps((__m512i)i); }
GENFAST_HD F fma_(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
GENFAST_HD F sqrt_(F a) { return (F)_mm512_sqrt_ps((__m512)a); }

#else
#error "GENFAST_LANES is 1, 8 or 16"
#endif

// A NaN in `a` stays one, as in torch.clamp: the x86 operations answer with their second argument.
#if GENFAST_LANES == 1
GENFAST_HD F at_least(F a, F low) { return a < low ? low : a; }
GENFAST_HD F at_most(F a, F high) { return a > high ? high : a; }
#elif GENFAST_LANES == 8
GENFAST_HD F at_least(F a, F low) { return (F)_mm256_max_ps((__m256)low, (__m256)a); }
GENFAST_HD F at_most(F a, F high) { return (F)_mm256_min_ps((__m256)high, (__m256)a); }
#else
GENFAST_HD F at_least(F a, F low) { return (F)_mm512_max_ps((__m512)low, (__m512)a); }
GENFAST_HD F at_most(F a, F high) { return (F)_mm512_min_ps((__m512)high, (__m512)a); }
#endif

// poly(x, c0, c1, ...) = c0 + x (c1 + x (...)), Horner.
GENFAST_HD F poly(F, float c) { return all(c); }
template <class... Cs>
GENFAST_HD F poly(F x, float c, Cs... cs) {
  return fma_(poly(x, cs...), x, all(c));
}

}  // namespace genfast::inline GENFAST_ISA
