#pragma once
// mma.sync.m16n8k16 with float32 sums, by its fragments: lane 4 g + t holds, of A, rows g and g + 8 at columns 2 t and
// 2 t + 1, then the same at 8 columns more; of B, column g at rows 2 t and 2 t + 1, then 8 more; of the sums, rows g
// and g + 8 at columns 2 t and 2 t + 1.  A GPU adds some products at a time, cut to the last place of the largest: here
// four, fewer than any that is known, so that a bound that holds here holds there.
#include <bit>
#include <cmath>

#include "warp.h"

namespace emulation {

inline float of_bf16(unsigned bits) { return std::bit_cast<float>(bits << 16); }
inline float of_f16(unsigned bits) {
  const unsigned magnitude = bits & 0x7fff, sign = (bits & 0x8000) << 16;
  const float normal = std::bit_cast<float>((magnitude << 13) + (magnitude < 0x7c00 ? 0x38000000u : 0x70000000u));
  const float value = magnitude < 0x400 ? float(magnitude) * 0x1p-24f : normal;
  return std::bit_cast<float>(std::bit_cast<unsigned>(value) | sign);
}

// What is left of a value where the 24 bits of another one end.
inline double cut(double value, double of) {
  constexpr uint64_t exponents = 0x7ff0000000000000, twice_bias = uint64_t(2046) << 52;
  const uint64_t power = std::bit_cast<uint64_t>(of) & exponents;
  return double(int64_t(value * std::bit_cast<double>(twice_bias - power) * 0x1p23)) * std::bit_cast<double>(power) *
         0x1p-23;
}

// The sum of terms that are cut where the largest ends, itself cut to 24 bits.
inline float cut_sum(const double (&terms)[5]) {
  double largest = 0, sum = 0, exact = 0;
  for (double term : terms) largest = std::max(largest, std::fabs(term)), exact += term;
  if (!(largest > 0 && std::fabs(exact) < INFINITY)) return float(exact);
  for (double term : terms) sum += cut(term, largest);
  return sum == 0 ? 0.0f : float(cut(sum, sum));
}

// sums += A B.
template <float (*widen)(unsigned)>
inline void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  struct Fragments {
    unsigned a[4], b[2];
  };
  if (current->block->warps[current->linear / 32].barrier.live != 32) fail("a product of matrices by part of a warp");
  const OfWarp<Fragments> all = exchange(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const unsigned group = current->linear % 32 / 4, member = current->linear % 4;
  float rows[2][16], columns[2][16];
  const auto unpack = [](float* to, unsigned pair) { to[0] = widen(pair & 0xffff), to[1] = widen(pair >> 16); };
  for (unsigned k = 0; k < 16; k += 2)
    for (unsigned i = 0; i < 2; ++i) {
      unpack(rows[i] + k, all[4 * group + k % 8 / 2].a[k / 8 * 2 + i]);
      unpack(columns[i] + k, all[4 * (2 * member + i) + k % 8 / 2].b[k / 8]);
    }
  for (unsigned i = 0; i < 4; ++i)
    for (unsigned k = 0; k < 16; k += 4) {
      double terms[5] = {sums[i]};
      for (unsigned j = 0; j < 4; ++j) terms[1 + j] = double(rows[i / 2][k + j]) * double(columns[i % 2][k + j]);
      sums[i] = cut_sum(terms);
    }
}
inline void mma_bf16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma<of_bf16>(sums, a, b); }
inline void mma_f16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma<of_f16>(sums, a, b); }

// ldmatrix: four 8 x 8 matrices of 2-byte numbers, of which lane l says where row l % 8 of matrix l / 8 lies in shared
// memory.  Lane 4 g + t gets of each the numbers 2 t and 2 t + 1 of row g.
inline void load_matrices(unsigned (&to)[4], const void* row) {
  if (!current->block->shared.find(row, 16)) fail("a matrix that is not in shared memory");
  if (reinterpret_cast<uintptr_t>(row) & 15) fail("a matrix that is not aligned");
  const OfWarp<const char*> all = exchange(static_cast<const char*>(row));
  const unsigned group = current->linear % 32 / 4, member = current->linear % 4;
  for (unsigned i = 0; i < 4; ++i) std::memcpy(to + i, all[8 * i + group] + 4 * member, 4);
  __syncwarp();
}

}  // namespace emulation
