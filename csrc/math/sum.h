#pragma once
// The order in which a sample's elements are summed, the same for every lane and on the GPU: element i of a chunk goes
// to accumulator i % 256, in order; the accumulators are added in a tree, eight neighbours first (what one GPU thread
// holds), then 32 groups (a warp); the chunks (kernels/types.h) are added
// in order.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kAccumulators = 256;

// (v0 + v4) + (v2 + v6) + ((v1 + v5) + (v3 + v7))
GENFAST_HD float sum_of_eight(const float* v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// What a tile adds to each of the `sums` sums of its row.
template <class Values, int sums = 1>
struct Terms {
  Values of[sums];
};

}  // namespace genfast::inline GENFAST_ISA
