#pragma once
// The number formats of memory: float32, bfloat16, float16.  Arithmetic is float32; storing rounds to nearest, ties to
// even, and a NaN stays a NaN.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// ---- one value ----
GENFAST_HD float widen(float a) { return a; }
GENFAST_HD float widen(BFloat16 a) { return std::bit_cast<float>(uint32_t(a.bits) << 16); }
GENFAST_HD float widen(Half a) {
#if defined(__CUDA_ARCH__)
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(a.bits));
  return f;
#else
  const uint32_t sign = uint32_t(a.bits & 0x8000) << 16, magnitude = a.bits & 0x7fff;
  float f = std::bit_cast<float>((magnitude << 13) + 0x38000000u);
  if (magnitude >= 0x7c00) f = std::bit_cast<float>((magnitude << 13) | 0x7f800000u);  // infinity, NaN
  if (magnitude < 0x400) f = float(magnitude) * 0x1p-24f;                              // subnormal
  return std::bit_cast<float>(std::bit_cast<uint32_t>(f) | sign);
#endif
}

GENFAST_HD void narrow(float a, float& to) { to = a; }
GENFAST_HD void narrow(float a, BFloat16& to) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(a));
#else
  const uint32_t u = std::bit_cast<uint32_t>(a);
  to.bits = uint16_t(a != a ? (u >> 16) | 0x40 : (u + 0x7fff + ((u >> 16) & 1)) >> 16);
#endif
}
GENFAST_HD void narrow(float a, Half& to) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(a));
#else
  const uint32_t u = std::bit_cast<uint32_t>(a), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  uint32_t h = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1)) >> 13;
  if (magnitude < 0x38800000u)  // subnormal: adding 1/2 rounds at 2^-24
    h = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  if (magnitude >= 0x477ff000u) h = 0x7c00;  // 65520 and above
  if (magnitude > 0x7f800000u) h = 0x7e00;
  to.bits = uint16_t(sign | h);
#endif
}

// ---- kLanes consecutive values of memory ----
#if GENFAST_LANES == 1
template <class T>
GENFAST_HD Floats load_lane(const T* p) {
  return widen(*p);
}
template <class T>
GENFAST_HD void store_lane(T* p, Floats a) {
  narrow(a, *p);
}
template <class T>
GENFAST_HD void stream_lane(T* p, Floats a) {
  store_lane(p, a);
}
GENFAST_HD void end_streams() {}
#elif GENFAST_LANES == 8
GENFAST_HD Floats load_lane(const float* p) { return (Floats)_mm256_loadu_ps(p); }
GENFAST_HD Floats load_lane(const BFloat16* p) {
  return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
}
GENFAST_HD Floats load_lane(const Half* p) { return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
GENFAST_HD __m128i narrow_lane(Floats a, BFloat16) {
  const Uints u = as_uint(a), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
  const __m256i b = (__m256i)(a == a ? rounded : quiet);
  return _mm_packus_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}
GENFAST_HD __m128i narrow_lane(Floats a, Half) { return _mm256_cvtps_ph((__m256)a, 0); }
template <class T>
GENFAST_HD void store_lane(T* p, Floats a) {
  _mm_storeu_si128((__m128i*)p, narrow_lane(a, T{}));
}
template <class T>
GENFAST_HD void stream_lane(T* p, Floats a) {
  _mm_stream_si128((__m128i*)p, narrow_lane(a, T{}));
}
GENFAST_HD void store_lane(float* p, Floats a) { _mm256_storeu_ps(p, (__m256)a); }
GENFAST_HD void stream_lane(float* p, Floats a) { _mm256_stream_ps(p, (__m256)a); }
#else
GENFAST_HD Floats load_lane(const float* p) { return (Floats)_mm512_loadu_ps(p); }
GENFAST_HD Floats load_lane(const BFloat16* p) {
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
}
GENFAST_HD Floats load_lane(const Half* p) { return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
GENFAST_HD __m256i narrow_lane(Floats a, BFloat16) {
  const Uints u = as_uint(a), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
  return _mm512_cvtepi32_epi16((__m512i)(a == a ? rounded : quiet));
}
GENFAST_HD __m256i narrow_lane(Floats a, Half) { return _mm512_cvtps_ph((__m512)a, 0); }
template <class T>
GENFAST_HD void store_lane(T* p, Floats a) {
  _mm256_storeu_si256((__m256i*)p, narrow_lane(a, T{}));
}
template <class T>
GENFAST_HD void stream_lane(T* p, Floats a) {
  _mm256_stream_si256((__m256i*)p, narrow_lane(a, T{}));
}
GENFAST_HD void store_lane(float* p, Floats a) { _mm512_storeu_ps(p, (__m512)a); }
GENFAST_HD void stream_lane(float* p, Floats a) { _mm512_stream_ps(p, (__m512)a); }
#endif
#if GENFAST_LANES > 1
// Other threads may read what was streamed.
GENFAST_HD void end_streams() { _mm_sfence(); }
#endif

}  // namespace genfast::inline GENFAST_ISA
