#pragma once
#include "../math/angle.h"
#include "../math/memory.h"
#include "time_embedding.h"

namespace genfast::inline GENFAST_ISA {

// Pieces of kLanes frequencies in a row; at least one, for the zeros.
GENFAST_HD int64_t pieces(const TimeEmbeddingArgs& p) { return p.count > kLanes ? (p.count + kLanes - 1) / kLanes : 1; }

// Of the frequencies from p on `count` are there; zeros stand for the others.
GENFAST_HD Doubles some_frequencies(const double* p, int count) {
#if GENFAST_LANES == 1
  return count > 0 ? *p : 0.0;
#else
  constexpr int width = kLanes / kHalves;
  if (count >= width) [[likely]]
    return load_lane(p);
  double buffer[width] = {};
  for (int i = 0; i < count; ++i) buffer[i] = p[i];
  return load_lane(buffer);
#endif
}

template <class T>
GENFAST_HD void embed(const TimeEmbeddingArgs& p, int64_t row, int64_t piece) {
  const int64_t first = piece * kLanes;
  const int n = p.count - first < kLanes ? int(p.count - first) : kLanes;
  Doubles frequencies[kHalves];
  for (int i = 0; i < kHalves; ++i) {
    const int before = i * kLanes / kHalves;
    frequencies[i] = some_frequencies(p.frequencies + first + before, n - before);
  }
  Floats sine, cosine;
  sine_cosine(angles(all(p.t[row]), frequencies), sine, cosine);
  const Floats left = p.flip ? cosine : sine, right = p.flip ? sine : cosine;
  T* out = static_cast<T*>(p.out) + row * p.width;
  if (n == kLanes) {
    store_lane(out + first, left), store_lane(out + p.count + first, right);
  } else {
    store_first(out + first, left, n), store_first(out + p.count + first, right, n);
  }
  if (piece == 0)
    for (int64_t k = 2 * p.count; k < p.width; ++k) out[k] = T{};
}

}  // namespace genfast::inline GENFAST_ISA
