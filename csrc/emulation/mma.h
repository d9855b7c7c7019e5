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

// The last of 24 bits of a number, and what is left of another one down to there.
inline double last_place(double of) {
  return std::bit_cast<double>(std::bit_cast<uint64_t>(of) & 0x7ff0000000000000) * 0x1p-23;
}
inline double cut(double value, double place) { return std::trunc(value / place) * place; }

// The sum of terms that are cut to the last place of the largest, itself cut to 24 bits.
inline float cut_sum(const double (&terms)[5]) {
  double largest = 0, sum = 0, exact = 0;
  for (double term : terms) largest = std::max(largest, std::fabs(term)), exact += term;
  if (!(largest > 0 && std::fabs(exact) < INFINITY)) return float(exact);
  for (double term : terms) sum += cut(term, last_place(largest));
  return sum == 0 ? 0.0f : float(cut(sum, last_place(sum)));
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
    float sum = sums[i];
    for (unsigned k = 0; k < 16; k += 4) {
      double terms[5] = {sum};
      for (unsigned j = 0; j < 4; ++j) {
        const unsigned lane = (k + j) % 8 / 2, second = k / 8;
        terms[1 + j] = half(all[4 * group + lane].a[2 * second + lower], j) * half(all[4 * column + lane].b[second], j);
      }
      sum = cut_sum(terms);
    }
    sums[i] = sum;
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
