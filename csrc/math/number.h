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

}  // namespace genfast::inline GENFAST_ISA
