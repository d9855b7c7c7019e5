#pragma once
// A pack is 16 bytes of memory: four float32 values or eight of 16 bits, which a thread reads and writes at once.
#include "map.cuh"

namespace genfast::inline GENFAST_ISA {

template <class T>
constexpr int kPack = 16 / sizeof(T);

// One 16-byte load of what the kernel does not write; left alone, nvcc may split it, or put it behind what it could run
// beside.
GENFAST_HD uint4 load_wide(const void* from) {
#if defined(__CUDA_ARCH__)
  uint4 words;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "l"(from));
  return words;
#else
  return *static_cast<const uint4*>(from);
#endif
}

template <class T>
GENFAST_HD void unpack(const uint4& words, float* to) {
  const uint32_t w[4] = {words.x, words.y, words.z, words.w};
  GENFAST_UNROLL
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      to[i] = std::bit_cast<float>(w[i]);
    } else if constexpr (std::is_same_v<T, BFloat16>) {  // by words: taking halves out is two instructions more
      to[2 * i] = std::bit_cast<float>(w[i] << 16), to[2 * i + 1] = std::bit_cast<float>(w[i] & 0xffff0000u);
    } else {
      to[2 * i] = widen(T{uint16_t(w[i])}), to[2 * i + 1] = widen(T{uint16_t(w[i] >> 16)});
    }
  }
}

template <class T>
GENFAST_HD uint4 packed(const float* from) {
  struct Values {
    T v[kPack<T>];
  } pack;
  GENFAST_UNROLL
  for (int k = 0; k < kPack<T>; ++k) narrow(from[k], pack.v[k]);
  return std::bit_cast<uint4>(pack);
}

}  // namespace genfast::inline GENFAST_ISA
