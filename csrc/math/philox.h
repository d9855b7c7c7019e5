#pragma once
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3).
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// A word per lane in the low half of 64 bits, so that a 32 x 32 -> 64 bit product needs no unpacking.
// The high halves hold leftovers that nothing reads.
#if GENFAST_LANES == 1
using Wide = uint64_t;
GENFAST_HD Wide wide(uint32_t a) { return a; }
GENFAST_HD Wide counters(uint32_t first) { return first; }
GENFAST_HD Wide multiply(Wide a, uint32_t m) {
#if defined(__CUDA_ARCH__)  // left alone, nvcc adds a zero to the high half
  Wide product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(uint32_t(a)), "r"(m));
  return product;
#else
  return uint64_t(uint32_t(a)) * m;
#endif
}
GENFAST_HD Wide high_xor(Wide product, Wide b, uint32_t k) { return (product >> 32) ^ b ^ k; }
GENFAST_HD Uints low_halves(Wide a) { return uint32_t(a); }
#elif GENFAST_LANES == 8
struct Wide {
  __m256i even, odd;
};
GENFAST_HD Wide wide(uint32_t a) { return {_mm256_set1_epi64x(a), _mm256_set1_epi64x(a)}; }
GENFAST_HD Wide counters(uint32_t first) {
  const __m256i a = _mm256_set1_epi64x(first);
  return {_mm256_add_epi64(a, _mm256_setr_epi64x(0, 2, 4, 6)), _mm256_add_epi64(a, _mm256_setr_epi64x(1, 3, 5, 7))};
}
GENFAST_HD Wide multiply(const Wide& a, uint32_t m) {
  const __m256i k = _mm256_set1_epi64x(m);
  return {_mm256_mul_epu32(a.even, k), _mm256_mul_epu32(a.odd, k)};
}
GENFAST_HD Wide high_xor(const Wide& product, const Wide& b, uint32_t k) {
  const __m256i key = _mm256_set1_epi64x(k);
  return {_mm256_xor_si256(_mm256_xor_si256(_mm256_shuffle_epi32(product.even, 0xf5), b.even), key),
          _mm256_xor_si256(_mm256_xor_si256(_mm256_shuffle_epi32(product.odd, 0xf5), b.odd), key)};
}
GENFAST_HD Uints low_halves(const Wide& a) {
  return (Uints)_mm256_blend_epi32(a.even, _mm256_slli_epi64(a.odd, 32), 0xaa);
}
#else
struct Wide {
  __m512i even, odd;
};
GENFAST_HD Wide wide(uint32_t a) { return {_mm512_set1_epi64(a), _mm512_set1_epi64(a)}; }
GENFAST_HD Wide counters(uint32_t first) {
  const __m512i a = _mm512_set1_epi64(first);
  return {_mm512_add_epi64(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14)),
          _mm512_add_epi64(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15))};
}
GENFAST_HD Wide multiply(const Wide& a, uint32_t m) {
  const __m512i k = _mm512_set1_epi64(m);
  return {_mm512_mul_epu32(a.even, k), _mm512_mul_epu32(a.odd, k)};
}
// A shuffle moves the high halves down: it runs on another port than the multiplier, a shift would not.
GENFAST_HD Wide high_xor(const Wide& product, const Wide& b, uint32_t k) {
  const __m512i key = _mm512_set1_epi64(k);
  return {_mm512_ternarylogic_epi64(_mm512_shuffle_epi32(product.even, _MM_PERM_DDBB), b.even, key, 0x96),
          _mm512_ternarylogic_epi64(_mm512_shuffle_epi32(product.odd, _MM_PERM_DDBB), b.odd, key, 0x96)};
}
GENFAST_HD Uints low_halves(const Wide& a) {
  return (Uints)_mm512_mask_shuffle_epi32(a.even, 0xaaaa, a.odd, _MM_PERM_CCAA);
}
#endif

struct Words {
  Uints x, y, z, w;
};

// The words of kLanes consecutive counters c0, c0 + 1, ...; c1, c2, c3 are shared.
GENFAST_HD Words philox(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  Wide x = counters(c0), y = wide(c1), z = wide(c2), w = wide(c3);
  GENFAST_UNROLL
  for (int round = 0; round < 10; ++round) {
    const Wide p = multiply(x, 0xD2511F53u), q = multiply(z, 0xCD9E8D57u);
    x = high_xor(q, y, k0), y = q, z = high_xor(p, w, k1), w = p;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {low_halves(x), low_halves(y), low_halves(z), low_halves(w)};
}

}  // namespace genfast::inline GENFAST_ISA
