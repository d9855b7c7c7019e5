#pragma once
// mma.sync.m16n8k16 with float32 sums, by its fragments: lane 4 g + t holds, of A, rows g and g + 8 at columns 2 t and
// 2 t + 1, then the same at 8 columns more; of B, column g at rows 2 t and 2 t + 1, then 8 more; of the sums, rows g
// and g + 8 at columns 2 t and 2 t + 1.  A GPU adds the products in an order of its own: here they are added exactly,
// to the 53 bits of a double.
#include <bit>

#include "warp.h"

namespace emulation {

inline float of_bf16(unsigned bits) { return std::bit_cast<float>(bits << 16); }
inline float of_f16(unsigned bits) {
  const int exponent = int(bits >> 10 & 31), fraction = int(bits & 1023);
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * std::ldexp(float(exponent ? fraction + 1024 : fraction), std::max(exponent, 1) - 25);
}

// sums += A B.
template <float (*widen)(unsigned)>
inline void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  struct Fragments {
    unsigned a[4], b[2];
  };
  if (current->block->warps[current->linear / 32].barrier.live != 32) fail("a product of matrices by part of a warp");
  const OfWarp<Fragments> all = exchange(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const auto half = [](unsigned pair, unsigned k) { return double(widen(k % 2 ? pair >> 16 : pair & 0xffff)); };
  const unsigned group = current->linear % 32 / 4, member = current->linear % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned lower = i / 2, column = 2 * member + i % 2;
    double sum = sums[i];
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned lane = k % 8 / 2, second = k / 8;
      sum += half(all[4 * group + lane].a[2 * second + lower], k) * half(all[4 * column + lane].b[second], k);
    }
    sums[i] = float(sum);
  }
}
inline void mma_bf16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma<of_bf16>(sums, a, b); }
inline void mma_f16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma<of_f16>(sums, a, b); }

}  // namespace emulation
