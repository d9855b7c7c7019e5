#pragma once
// The order in which a sample's elements are summed, the same for every lane and on the GPU: element i of a chunk
// (kernels/types.h) goes to accumulator i % 256, in order; the accumulators are added in a tree, those 128 apart first,
// which are whole registers on a CPU; the chunks are added in order.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kAccumulators = 256;

// What a tile adds to each of the `sums` sums of its row.
template <class Values, int sums = 1>
struct Terms {
  Values of[sums];
};

}  // namespace genfast::inline GENFAST_ISA
