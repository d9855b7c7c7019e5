#pragma once
#include "../math/angle.h"
#include "../math/number.h"
#include "time_embedding.h"

namespace genfast::inline GENFAST_ISA {

// Pieces of kLanes frequencies in a row; at least one, for the zeros.
GENFAST_HD int64_t pieces(const TimeEmbeddingArgs& p) { return p.count > kLanes ? (p.count + kLanes - 1) / kLanes : 1; }

template <class T>
GENFAST_HD void embed(const TimeEmbeddingArgs& p, int64_t row, int64_t piece) {
  const int64_t first = piece * kLanes;
  const int n = p.count - first < kLanes ? int(p.count - first) : kLanes;
  float rest[kLanes] = {};
  struct {
    uint32_t of[kLanes];
  } quarters = {};
  for (int i = 0; i < n; ++i) {
    const Angle a = angle(p.t[row], p.frequencies[first + i]);
    rest[i] = a.rest, quarters.of[i] = a.quarters;
  }
  Floats sine, cosine;
  sine_cosine(load_lane(rest), std::bit_cast<Uints>(quarters), sine, cosine);
  T left[kLanes], right[kLanes];
  store_lane(left, p.flip ? cosine : sine);
  store_lane(right, p.flip ? sine : cosine);
  T* out = static_cast<T*>(p.out) + row * p.width;
  for (int i = 0; i < n; ++i) out[first + i] = left[i], out[p.count + first + i] = right[i];
  if (piece == 0)
    for (int64_t k = 2 * p.count; k < p.width; ++k) out[k] = T{};
}

}  // namespace genfast::inline GENFAST_ISA
