#pragma once
// kLanes consecutive values of memory, and the first `count` of them, fewer, those beyond being zero.
#include "number.h"

namespace genfast::inline GENFAST_ISA {

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
GENFAST_HD Floats first_of(Floats, int) { return 0.0f; }
template <class T>
GENFAST_HD Floats load_first(const T*, int) {
  return 0.0f;
}
template <class T>
GENFAST_HD void store_first(T*, Floats, int) {}
#else
#if GENFAST_LANES == 8
using Shorts = __m128i;  // kLanes of 16 bits
GENFAST_HD Uints widen_shorts(Shorts a) { return (Uints)_mm256_cvtepu16_epi32(a); }
GENFAST_HD Floats widen_lane(Shorts a, Half) { return (Floats)_mm256_cvtph_ps(a); }
GENFAST_HD Shorts narrow_lane(Floats a, Half) { return _mm256_cvtps_ph((__m256)a, 0); }
GENFAST_HD Shorts low_shorts(Uints a) {  // below 2^16
  return _mm_packus_epi32(_mm256_castsi256_si128((__m256i)a), _mm256_extracti128_si256((__m256i)a, 1));
}
GENFAST_HD Shorts load_shorts(const void* p) { return _mm_loadu_si128((const Shorts*)p); }
GENFAST_HD void store_shorts(void* p, Shorts a) { _mm_storeu_si128((Shorts*)p, a); }
GENFAST_HD void stream_shorts(void* p, Shorts a) { _mm_stream_si128((Shorts*)p, a); }
GENFAST_HD Floats load_lane(const float* p) { return (Floats)_mm256_loadu_ps(p); }
GENFAST_HD void store_lane(float* p, Floats a) { _mm256_storeu_ps(p, (__m256)a); }
GENFAST_HD void stream_lane(float* p, Floats a) { _mm256_stream_ps(p, (__m256)a); }
GENFAST_HD __m256i mask_of(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
GENFAST_HD Floats first_of(Floats a, int count) { return (Floats)_mm256_and_ps((__m256)a, (__m256)mask_of(count)); }
GENFAST_HD Floats load_first(const float* p, int count) { return (Floats)_mm256_maskload_ps(p, mask_of(count)); }
GENFAST_HD void store_first(float* p, Floats a, int count) { _mm256_maskstore_ps(p, mask_of(count), (__m256)a); }
// For 16 bits there is no such instruction.  Functions of their own: within each loop they would take longer to compile
// than that.
template <class U>
GENFAST_HD uint64_t bits_at(const uint16_t* p) {
  U bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return bits;
}
[[gnu::noinline]] inline Shorts load_first_shorts(const void* from, int count) {
  const auto *const p = static_cast<const uint16_t*>(from), *const behind = p + (count & 4);
  const uint64_t two = count & 2 ? bits_at<uint32_t>(behind) : 0;
  const uint64_t left = count & 1 ? two | bits_at<uint16_t>(behind + (count & 2)) << 16 * (count & 2) : two;
  return count & 4 ? _mm_set_epi64x(left, bits_at<uint64_t>(p)) : _mm_set_epi64x(0, left);
}
[[gnu::noinline]] inline void store_first_shorts(void* to, Shorts a, int count) {
  auto* p = static_cast<uint16_t*>(to);
  uint64_t bits = _mm_cvtsi128_si64(a);
  if (count & 4) __builtin_memcpy(p, &bits, 8), p += 4, bits = _mm_extract_epi64(a, 1);
  if (count & 2) __builtin_memcpy(p, &bits, 4), p += 2, bits >>= 32;
  if (count & 1) __builtin_memcpy(p, &bits, 2);
}
#else
using Shorts = __m256i;
GENFAST_HD Uints widen_shorts(Shorts a) { return (Uints)_mm512_cvtepu16_epi32(a); }
GENFAST_HD Floats widen_lane(Shorts a, Half) { return (Floats)_mm512_cvtph_ps(a); }
GENFAST_HD Shorts narrow_lane(Floats a, Half) { return _mm512_cvtps_ph((__m512)a, 0); }
GENFAST_HD Shorts low_shorts(Uints a) { return _mm512_cvtepi32_epi16((__m512i)a); }
GENFAST_HD Shorts load_shorts(const void* p) { return _mm256_loadu_si256((const Shorts*)p); }
GENFAST_HD void store_shorts(void* p, Shorts a) { _mm256_storeu_si256((Shorts*)p, a); }
GENFAST_HD void stream_shorts(void* p, Shorts a) { _mm256_stream_si256((Shorts*)p, a); }
GENFAST_HD Floats load_lane(const float* p) { return (Floats)_mm512_loadu_ps(p); }
GENFAST_HD void store_lane(float* p, Floats a) { _mm512_storeu_ps(p, (__m512)a); }
GENFAST_HD void stream_lane(float* p, Floats a) { _mm512_stream_ps(p, (__m512)a); }
GENFAST_HD __mmask16 mask_of(int count) { return __mmask16((1u << count) - 1); }
GENFAST_HD Floats first_of(Floats a, int count) { return (Floats)_mm512_maskz_mov_ps(mask_of(count), (__m512)a); }
GENFAST_HD Floats load_first(const float* p, int count) { return (Floats)_mm512_maskz_loadu_ps(mask_of(count), p); }
GENFAST_HD void store_first(float* p, Floats a, int count) { _mm512_mask_storeu_ps(p, mask_of(count), (__m512)a); }
GENFAST_HD Shorts load_first_shorts(const void* p, int count) { return _mm256_maskz_loadu_epi16(mask_of(count), p); }
GENFAST_HD void store_first_shorts(void* p, Shorts a, int count) { _mm256_mask_storeu_epi16(p, mask_of(count), a); }
#endif
GENFAST_HD Floats widen_lane(Shorts a, BFloat16) { return as_float(widen_shorts(a) << 16); }
GENFAST_HD Shorts narrow_lane(Floats a, BFloat16) {
  const Uints u = as_uint(a), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
  return low_shorts((Uints)(a == a ? rounded : quiet));
}
template <class T>
GENFAST_HD Floats load_lane(const T* p) {
  return widen_lane(load_shorts(p), T{});
}
template <class T>
GENFAST_HD void store_lane(T* p, Floats a) {
  store_shorts(p, narrow_lane(a, T{}));
}
template <class T>
GENFAST_HD void stream_lane(T* p, Floats a) {
  stream_shorts(p, narrow_lane(a, T{}));
}
template <class T>
GENFAST_HD Floats load_first(const T* p, int count) {
  return widen_lane(load_first_shorts(p, count), T{});
}
template <class T>
GENFAST_HD void store_first(T* p, Floats a, int count) {
  store_first_shorts(p, narrow_lane(a, T{}), count);
}
// Other threads may read what was streamed.
GENFAST_HD void end_streams() { _mm_sfence(); }
#endif

}  // namespace genfast::inline GENFAST_ISA
