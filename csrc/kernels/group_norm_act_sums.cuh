#pragma once
// The sum of what a thread holds, of 16 bits by tensor cores: one instruction in place of sixteen.
#include "held.cuh"
#include "mma.cuh"

namespace genfast::inline GENFAST_ISA {

// Of the lower and the upper halves of packs of 16 bits, by all of a warp.  A row of A has these halves of four
// neighboring lanes, lower ones above upper ones; a column of B has ones where numbers are of the lane that keeps the
// sum.  Those of the other three count 0 times: NaN where they are not finite.
template <class T, int packs>
__device__ inline Pair sums_with_neighbors(const uint4 (&held)[packs]) {
  constexpr bool bf16 = std::is_same_v<T, BFloat16>;
  constexpr unsigned one = bf16 ? 0x3f80 : 0x3c00;
  const unsigned lane = threadIdx.x % 32, ones = lane / 8 == lane % 4 ? one << 16 | one : 0, b[] = {ones, ones};
  float sums[4] = {};
  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) {
    const unsigned a[] = {held[k].x, held[k].z, held[k].y, held[k].w};
    if constexpr (bf16)
      mma_bf16(sums, a, b);
    else
      mma_f16(sums, a, b);
  }
  return {sums[0], sums[2]};
}

// Of the halves of packs.
template <class T, int packs>
__device__ inline Pair sums_of_halves(typename Packs<T, true>::Word (&held)[packs]) {
  using Pack = Packs<T, true>;
  constexpr int half = Pack::kWide / 2;
  if constexpr (sizeof(T) == 2) {
    const Pair sums = sums_with_neighbors<T>(held);
    if (__all_sync(0xffffffffu, fabsf(sums.first) + fabsf(sums.second) < INFINITY)) return sums;
  }
  Pair sums{0.0f, 0.0f};
  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) {
    float v[Pack::kWide], lower[half], upper[half];
    Pack::unpack(held[k], v);
    GENFAST_UNROLL
    for (int j = 0; j < half; ++j) lower[j] = v[j], upper[j] = v[half + j];
    sums = {sums.first + sum_of(lower), sums.second + sum_of(upper)};
  }
  return sums;
}

// Of all that a thread holds of a group that is the whole block's: what is not finite is NaN in all of it anyway.
template <class T, bool vector, int packs>
__device__ inline float sum_of_group(typename Packs<T, vector>::Word (&held)[packs]) {
  if constexpr (vector && sizeof(T) == 2) {
    const Pair sums = sums_with_neighbors<T>(held);
    return sums.first + sums.second;
  }
  float sum = 0.0f;
  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) {
    float v[Packs<T, vector>::kWide];
    Packs<T, vector>::unpack(held[k], v);
    sum = sum + sum_of(v);
  }
  return sum;
}

}  // namespace genfast::inline GENFAST_ISA
