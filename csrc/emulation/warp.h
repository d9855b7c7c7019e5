#pragma once
// What the lanes of a warp tell each other.
#include "launch.h"

namespace emulation {

// The values of all lanes, by lane.
template <class T>
struct OfWarp {
  const char (*slots)[32];
  T operator[](unsigned lane) const {
    T value;
    std::memcpy(&value, slots[lane & 31], sizeof(T));
    return value;
  }
};

// Two buffers: who is quick writes to the other one while the slow still read.
template <class T>
inline OfWarp<T> exchange(const T& value) {
  Warp& warp = current->block->warps[current->linear / 32];
  auto& slots = warp.exchange[warp.barrier.phase & 1];
  static_assert(sizeof(T) <= sizeof(slots[0]));
  std::memcpy(slots[current->linear % 32], &value, sizeof(T));
  warp.barrier.sync();
  return {slots};
}

}  // namespace emulation

inline void __syncthreads() { emulation::current->block->barrier.sync(); }
inline void __syncwarp(unsigned = ~0u) {
  emulation::current->block->warps[emulation::current->linear / 32].barrier.sync();
}
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
  return emulation::exchange(v)[emulation::current->linear % 32 ^ unsigned(mask)];
}
template <class T>
T __shfl_down_sync(unsigned, T v, unsigned d, int = 32) {
  return emulation::exchange(v)[std::min(emulation::current->linear % 32 + d, 31u)];
}
template <class T>
T __shfl_sync(unsigned, T v, int lane, int = 32) {
  return emulation::exchange(v)[unsigned(lane)];
}
inline int __all_sync(unsigned, bool v) {
  const auto all = emulation::exchange(v);
  bool every = true;
  for (unsigned lane = 0; lane < 32; ++lane) every &= all[lane];
  return every;
}
