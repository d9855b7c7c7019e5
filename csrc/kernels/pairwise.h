#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// The k nearest of y for each x, or, with k = 0, who lies in whose ball.
struct PairwiseArgs {
  double* distance;        // [n, k]: squared, ascending, ties by smaller index
  int64_t* index;          // [n, k]
  double* lists_distance;  // [segments, n, at most k] scratch of the CUDA twin, where there are several segments
  int64_t* lists_index;    // the same
  int64_t *in_x,
      *over_x;  // [n], zero beforehand: how many y lie in the ball around x_i, how many balls around y contain x_i
  int64_t *over_y, *in_y;     // [m], the same, sides exchanged
  const float *x, *y;         // [n, features], [m, features]
  const double* radius_x;     // [n], squared; a negative one is an empty ball, and so are all if there is no pointer
  const double* radius_y;     // [m]
  const float* center;        // [features], times `scale`: anything is right, the mean is fastest
  float scale;                // see math/margin.h
  int64_t n, m, features, k;  // k <= m
  bool exclude_self;          // x and y are one set: no point is its own neighbor
};
inline Work work(const PairwiseArgs& p) { return {p.n, 64}; }

// On a GPU, 64 rows of x meet a segment of y, of which there are several where there are few rows.
inline int64_t segment_span(int64_t n, int64_t m) {
  const int64_t rows = (n + 63) / 64, wanted = rows > 0 && rows < 512 ? 512 / rows : 1;
  const int64_t span = (m + wanted - 1) / wanted;
  return span < 512 ? 512 : (span + 63) / 64 * 64;
}

GENFAST_TWINS(pairwise, PairwiseArgs)

}  // namespace genfast
