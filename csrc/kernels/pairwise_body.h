#pragma once
#include "../math/margin.h"
#include "../math/pair.h"
#include "pairwise.h"

namespace genfast::inline GENFAST_ISA {

constexpr int64_t kNobody = INT64_MAX;  // the index of a place in a list that is still empty, at distance infinity

// Puts (d, j) into a sorted list of k, whose last one falls out.
GENFAST_HD void insert(double* distance, int64_t* index, int64_t k, double d, int64_t j) {
  const auto follows = [&](int64_t at) { return d < distance[at] || (d == distance[at] && j < index[at]); };
  int64_t at = k - 1;
  if (!follows(at)) return;
  for (; at > 0 && follows(at - 1); --at) distance[at] = distance[at - 1], index[at] = index[at - 1];
  distance[at] = d, index[at] = j;
}

GENFAST_HD double radius_at(const double* squared, int64_t i) { return squared ? squared[i] : -1.0; }

}  // namespace genfast::inline GENFAST_ISA
