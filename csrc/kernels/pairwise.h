#pragma once
#include <algorithm>

#include "isa.h"
#include "types.h"

namespace genfast {

// The k nearest of y for each x, or, with k = 0, who lies in whose ball.
struct PairwiseArgs {
  double* distance;  // [n, k]: squared, ascending, ties by smaller index
  int64_t* index;    // [n, k]
  int64_t *in_x,
      *over_x;  // [n], zero beforehand: how many y lie in the ball around x_i, how many balls around y contain x_i
  int64_t *over_y, *in_y;     // [m], the same, sides exchanged
  const float *x, *y;         // [n, features], [m, features]
  const double* radius_x;     // [n], squared; a negative one is an empty ball, and so are all if there is no pointer
  const double* radius_y;     // [m]
  const float* center;        // of the CPU twin: [features], times `scale`: anything is right, the mean is fastest
  float scale;                // the same; see math/margin.h
  void* scratch;              // of the CUDA twin: PairwiseMemory(args).bytes
  int64_t n, m, features, k;  // k <= m
  bool exclude_self;          // x and y are one set: no point is its own neighbor
};
inline Work work(const PairwiseArgs& p) { return {p.n, 64}; }

// How a GPU takes the sets: so many rows of x against so many of y at a time, for which there are 64 MiB, a little more
// for thousands of features.
struct PairwiseMemory {
  static constexpr int64_t kRows = 128, kColumns = 256, kUnit = 32;  // of x, of y, of features: multiples of these
  static constexpr int64_t kParts = 1024;                            // blocks that look for the largest number

  int64_t units, capacity, rows, columns;              // capacity: candidates of a row that there is room for
  int64_t center, x, y, points, found, counts, bytes;  // where each begins

  explicit PairwiseMemory(const PairwiseArgs& p) {
    const auto up = [](int64_t value, int64_t to) { return (value + to - 1) / to * to; };
    const auto most = [&](int64_t mebibytes, int64_t each, int64_t to) {
      return std::max((mebibytes << 20) / std::max<int64_t>(1, each) / to * to, to);
    };
    const auto evenly = [&](int64_t count, int64_t at_most, int64_t to) {  // in as many pieces, of like sizes
      const int64_t pieces = std::max<int64_t>(1, (count + at_most - 1) / at_most);
      return std::max(up((count + pieces - 1) / pieces, to), to);
    };
    units = up(p.features, kUnit) / kUnit;
    capacity = std::clamp(up(8 * p.k, kColumns), kColumns, 32 * kColumns);
    const int64_t of_point = 2 * kUnit * units, of_row = p.k > 0 ? 8 * capacity : 0;
    rows = evenly(p.n, std::min({most(32, of_point, kRows), most(16, of_row, kRows), int64_t(16384)}), kRows);
    const int64_t left = std::max<int64_t>(0, (int64_t(48) << 20) - rows * of_point) >> 20;  // few rows leave more
    const int64_t bits = (int64_t(128) << 20) / rows;                                        // of the pairs, for balls
    columns = evenly(p.m, std::min(most(left, of_point, kColumns), p.k > 0 ? int64_t(65536) : bits), kColumns);
    const auto place = [&](int64_t size) {
      const int64_t begin = bytes;
      bytes += up(size, 256);
      return begin;
    };
    bytes = 0;
    center = place(4 * (kParts + 1 + p.features));
    x = place(rows * of_point), y = place(columns * of_point);
    points = place(32 * (rows + columns));
    found = place(p.k > 0 ? rows * of_row : rows * columns / 8);
    counts = place(p.k > 0 ? 4 * rows : 0);
  }
};

GENFAST_TWINS(pairwise, PairwiseArgs)

}  // namespace genfast
