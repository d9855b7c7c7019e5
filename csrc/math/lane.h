#pragma once
// A lane is what one formula computes on: Floats, Uints and Ints, 16 of them in an AVX-512 object, 8 in an AVX2 object,
// one in a scalar or CUDA object.  Every formula in math/ is written once in Floats and Uints; an object of another
// instruction set compiles it again in an inline namespace of its own, so that the linker never mixes them.
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

using Floats = float;
using Uints = uint32_t;
using Ints = int32_t;
GENFAST_HD Floats all(float a) { return a; }
GENFAST_HD Floats as_float(Uints u) { return std::bit_cast<float>(u); }
GENFAST_HD Uints as_uint(Floats f) { return std::bit_cast<uint32_t>(f); }
GENFAST_HD Floats to_float(Uints u) { return static_cast<float>(u); }  // round to nearest
GENFAST_HD Floats to_float(Ints i) { return static_cast<float>(i); }
GENFAST_HD Floats fma_(Floats a, Floats b, Floats c) { return fmaf(a, b, c); }
GENFAST_HD Floats sqrt_(Floats a) { return sqrtf(a); }
GENFAST_HD Floats abs_(Floats a) { return fabsf(a); }  // of an operand a GPU takes it for nothing

#elif GENFAST_LANES == 8

typedef float Floats __attribute__((vector_size(32)));
typedef uint32_t Uints __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
GENFAST_HD Floats all(float a) { return (Floats)_mm256_set1_ps(a); }
GENFAST_HD Floats as_float(Uints u) { return (Floats)u; }
GENFAST_HD Uints as_uint(Floats f) { return (Uints)f; }
GENFAST_HD Floats to_float(Ints i) { return (Floats)_mm256_cvtepi32_ps((__m256i)i); }
GENFAST_HD Floats fma_(Floats a, Floats b, Floats c) {
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
GENFAST_HD Floats sqrt_(Floats a) { return (Floats)_mm256_sqrt_ps((__m256)a); }
// AVX2 has no conversion from unsigned; both halves are exact, so the one rounding is that of the fma.
GENFAST_HD Floats to_float(Uints u) {
  return fma_(to_float((Ints)(u >> 16)), all(65536.0f), to_float((Ints)(u & 0xffffu)));
}

#elif GENFAST_LANES == 16

typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Uints __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
GENFAST_HD Floats all(float a) { return (Floats)_mm512_set1_ps(a); }
GENFAST_HD Floats as_float(Uints u) { return (Floats)u; }
GENFAST_HD Uints as_uint(Floats f) { return (Uints)f; }
GENFAST_HD Floats to_float(Uints u) { return (Floats)_mm512_cvtepu32_ps((__m512i)u); }
GENFAST_HD Floats to_float(Ints i) { return (Floats)_mm512_cvtepi32_ps((__m512i)i); }
GENFAST_HD Floats fma_(Floats a, Floats b, Floats c) {
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
GENFAST_HD Floats sqrt_(Floats a) { return (Floats)_mm512_sqrt_ps((__m512)a); }

#else
#error "GENFAST_LANES is 1, 8 or 16"
#endif

#if GENFAST_LANES > 1
GENFAST_HD Floats abs_(Floats a) { return as_float(as_uint(a) & 0x7fffffffu); }
#endif

// A NaN in `a` stays one, as in torch.clamp: the x86 operations answer with their second argument.
#if GENFAST_LANES == 1
GENFAST_HD Floats at_least(Floats a, Floats low) { return a < low ? low : a; }
GENFAST_HD Floats at_most(Floats a, Floats high) { return a > high ? high : a; }
#elif GENFAST_LANES == 8
GENFAST_HD Floats at_least(Floats a, Floats low) { return (Floats)_mm256_max_ps((__m256)low, (__m256)a); }
GENFAST_HD Floats at_most(Floats a, Floats high) { return (Floats)_mm256_min_ps((__m256)high, (__m256)a); }
#else
GENFAST_HD Floats at_least(Floats a, Floats low) { return (Floats)_mm512_max_ps((__m512)low, (__m512)a); }
GENFAST_HD Floats at_most(Floats a, Floats high) { return (Floats)_mm512_min_ps((__m512)high, (__m512)a); }
#endif

// poly(x, c0, c1, ...) = c0 + x (c1 + x (...)), Horner.
GENFAST_HD Floats poly(Floats, float c) { return all(c); }
template <class... Cs>
GENFAST_HD Floats poly(Floats x, float c, Cs... cs) {
  return fma_(poly(x, cs...), x, all(c));
}

}  // namespace genfast::inline GENFAST_ISA
