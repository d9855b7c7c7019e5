#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// The k nearest of y for each x, or, with k = 0, who lies in whose ball.
struct PairwiseArgs {
  double* distance;           // [n, k]: squared, ascending, ties by smaller index
  int64_t* index;             // [n, k]
  int64_t *in_x, *over_x;     // [n]: how many y lie in the ball around x_i, how many balls around y contain x_i
  int64_t *over_y, *in_y;     // [m], zero beforehand: the same, sides exchanged
  const float *x, *y;         // [n, features], [m, features]
  const double* radius_x;     // [n], squared; a negative one is an empty ball, and so are all if there is no pointer
  const double* radius_y;     // [m]
  const float* centre;        // [features], times `scale`: anything is right, the mean is fastest
  float scale;                // see math/pair.h
  int64_t n, m, features, k;  // k <= m
  bool exclude_self;          // x and y are one set: no point is its own neighbour
};

GENFAST_TWINS(pairwise, PairwiseArgs)

}  // namespace genfast
