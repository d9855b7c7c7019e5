#pragma once
// What a thread holds in registers: packs of 16 bytes, or single values where memory is not aligned; and sums over the
// threads of a block.
#include <type_traits>

#include "map.cuh"

namespace genfast::inline GENFAST_ISA {

template <class T, bool vector>
struct Packs {
  static constexpr int kWide = vector ? 16 / sizeof(T) : 1;
  using Word = std::conditional_t<vector, uint4, T>;
  struct Values {
    T v[kWide];
  };

  static GENFAST_HD Word load(const void* base, int64_t pack) { return static_cast<const Word*>(base)[pack]; }
  static GENFAST_HD void store(void* base, int64_t pack, const Word& word) {
    if constexpr (vector)
      store_wide(static_cast<uint4*>(base) + pack, word);
    else
      static_cast<T*>(base)[pack] = word;
  }
  static GENFAST_HD Word zero() { return Word{}; }
  // To unpack is cheaper than to hold unpacked what is needed again: the compiler is not to know that it is the same.
  static GENFAST_HD void unpack(Word& word, float (&to)[kWide]) {
#if defined(__CUDA_ARCH__)
    if constexpr (vector && sizeof(T) == 2) asm("" : "+r"(word.x), "+r"(word.y), "+r"(word.z), "+r"(word.w));
    if constexpr (vector && std::is_same_v<T, BFloat16>) {  // an instruction each: the compiler takes two for the upper
      const uint32_t both[] = {word.x, word.y, word.z, word.w};
      GENFAST_UNROLL
      for (int j = 0; j < kWide; ++j)
        to[j] = std::bit_cast<float>(j % 2 ? both[j / 2] & 0xffff0000u : both[j / 2] << 16);
      return;
    }
#endif
    const Values values = std::bit_cast<Values>(word);
    GENFAST_UNROLL
    for (int j = 0; j < kWide; ++j) to[j] = widen(values.v[j]);
  }
  static GENFAST_HD Word pack(const float (&from)[kWide]) {
#if defined(__CUDA_ARCH__)
    constexpr bool by_two = vector && sizeof(T) == 2;
#else
    constexpr bool by_two = false;
#endif
    if constexpr (by_two) {
      return {two(from[0], from[1], T{}), two(from[2], from[3], T{}), two(from[4], from[5], T{}),
              two(from[6], from[7], T{})};
    } else {
      Values values;
      GENFAST_UNROLL
      for (int j = 0; j < kWide; ++j) narrow(from[j], values.v[j]);
      return std::bit_cast<Word>(values);
    }
  }

 private:
  // Two values by one instruction.
#if defined(__CUDA_ARCH__)
  static GENFAST_HD uint32_t two(float low, float high, BFloat16) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }
  static GENFAST_HD uint32_t two(float low, float high, Half) {
    uint32_t both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }
#endif
};

// What is found again is not to be held meanwhile: the compiler is not to know that it is the same.
GENFAST_HD void find_again([[maybe_unused]] int64_t& place) {
#if defined(__CUDA_ARCH__)
  asm("" : "+l"(place));
#endif
}
GENFAST_HD void find_again([[maybe_unused]] int& place) {
#if defined(__CUDA_ARCH__)
  asm("" : "+r"(place));
#endif
}

// The sum of a few values, in pairs.
template <int count>
GENFAST_HD float sum_of(const float (&v)[count]) {
  float level[count];
  GENFAST_UNROLL
  for (int j = 0; j < count; ++j) level[j] = v[j];
  GENFAST_UNROLL
  for (int distance = count / 2; distance > 0; distance /= 2) {
    GENFAST_UNROLL
    for (int j = 0; j < distance; ++j) level[j] = level[j] + level[j + distance];
  }
  return level[0];
}

__device__ inline float warp_sum(float v) {
  GENFAST_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) v = v + __shfl_xor_sync(0xffffffffu, v, distance);
  return v;
}

struct alignas(8) Pair {
  float first, second;
};

// The sums of two numbers over a warp: half of it has one of them, half the other, until the end.
__device__ inline Pair warp_sum(const Pair& v) {
  const bool upper = threadIdx.x & 16;
  float sum = (upper ? v.second : v.first) + __shfl_xor_sync(0xffffffffu, upper ? v.first : v.second, 16);
  GENFAST_UNROLL
  for (int distance = 8; distance > 0; distance /= 2) sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
  const float other = __shfl_xor_sync(0xffffffffu, sum, 16);
  return upper ? Pair{other, sum} : Pair{sum, other};
}

// Every thread gets the sum over the block, of at most 32 warps.  `room` is for this sum alone.
__device__ inline float block_sum(float v, float (&room)[32]) {
  const unsigned lane = threadIdx.x % 32, warps = blockDim.x / 32;
  v = warp_sum(v);
  if (lane == 0) room[threadIdx.x / 32] = v;
  __syncthreads();
  return warp_sum(lane < warps ? room[lane] : 0.0f);
}

}  // namespace genfast::inline GENFAST_ISA
