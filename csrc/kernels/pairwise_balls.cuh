#pragma once
// Who lies in whose ball: products count what they can tell, the pairs that they leave open are computed in float64.
#include "pairwise_products.cuh"

namespace genfast::inline GENFAST_ISA {

// How many, of each point of a set: a warp's in the lower half, the others' balls in the upper.
struct Counts {
  int64_t *in, *over;

  __device__ void add(int64_t i, unsigned both) const { add(in + i, both & 0xffffu), add(over + i, both >> 16); }

 private:
  static __device__ void add(int64_t* to, unsigned count) {
    if (count) atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(count));
  }
};

// Of one pair: whether y lies in the ball of x, and x in that of y.
__device__ inline unsigned for_x(bool in_x, bool in_y) { return unsigned(in_x) | unsigned(in_y) << 16; }
__device__ inline unsigned for_y(bool in_x, bool in_y) { return for_x(in_y, in_x); }
__device__ inline bool any_of_warp(unsigned v) {
  GENFAST_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) v |= __shfl_xor_sync(0xffffffffu, v, distance);
  return v != 0;
}

struct Balls {
  static constexpr bool kWide = false;
  Part x, y;
  Counts of_x, of_y;
  unsigned* open;  // [rows][words]: a bit a pair, 64 columns a warp
  int words;

  __device__ void take(const Place& place, const Sums& sums) const {
    const int lane = int(threadIdx.x % 32);
    unsigned left[8] = {}, of_row[8] = {};
    GENFAST_UNROLL
    for (int c = 0; c < 16; ++c) {
      const int column = place.column + Place::column_of(c);
      const Point of_column = y.of[column];
      const Ball around_column = y.balls[column];
      unsigned of_this = 0;
      GENFAST_UNROLL
      for (int r = 0; r < 8; ++r) {
        const int row = place.row + Place::row_of(r);
        const Point of_row_point = x.of[row];
        const Ball around_row = x.balls[row];
        const float dot = sum_at(sums, r, c) * of_row_point.scale * of_column.scale;
        const bool out_x = around_row.surely_out(dot, of_column), out_y = around_column.surely_out(dot, of_row_point);
        if ((out_x && out_y) || row >= x.count || column >= y.count) continue;
        const bool in_x = !out_x && around_row.surely_in(dot, of_column);
        const bool in_y = !out_y && around_column.surely_in(dot, of_row_point);
        if ((out_x || in_x) && (out_y || in_y))
          of_row[r] += for_x(in_x, in_y), of_this += for_y(in_x, in_y);
        else
          left[r] |= 1u << c;
      }
      if (!any_of_warp(of_this)) continue;
      GENFAST_UNROLL
      for (int distance = 4; distance < 32; distance *= 2) of_this += __shfl_xor_sync(0xffffffffu, of_this, distance);
      if (lane < 4 && column < y.count) of_y.add(y.index(column), of_this);
    }
    GENFAST_UNROLL
    for (int r = 0; r < 8; ++r) {
      const int row = place.row + Place::row_of(r);
      unsigned bits[2];  // columns 0 to 31 and 32 to 63: byte c / 4 is columns 8 c / 4 to 8 c / 4 + 7
      GENFAST_UNROLL
      for (int w = 0; w < 2; ++w) {
        bits[w] = 0;
        GENFAST_UNROLL
        for (int i = 0; i < 4; ++i) bits[w] |= (left[r] >> (8 * w + 2 * i) & 3u) << (8 * i + 2 * (lane % 4));
      }
      unsigned counts = of_row[r];
      GENFAST_UNROLL
      for (int distance = 1; distance < 4; distance *= 2) {
        counts += __shfl_xor_sync(0xffffffffu, counts, distance);
        bits[0] |= __shfl_xor_sync(0xffffffffu, bits[0], distance);
        bits[1] |= __shfl_xor_sync(0xffffffffu, bits[1], distance);
      }
      if (row >= x.count) continue;
      const int word = place.column / 64 * 2 + lane % 4;
      if (lane % 4 < 2) open[int64_t(row) * words + word] = lane % 4 ? bits[1] : bits[0];
      if (lane % 4 == 0) of_x.add(x.first + row, counts);
    }
  }
};

// Of a pair, by a warp: whether y_j lies in the ball of x_i, and x_i in that of y_j.
struct Within {
  bool x, y;
};
__device__ inline Within decided(const PairwiseArgs& p, int64_t i, int64_t j) {
  const float *x = p.x + i * p.features, *y = p.y + j * p.features;
  const double of_x = radius_at(p.radius_x, i), of_y = radius_at(p.radius_y, j);
  const DifferenceMargin margin(p.features);
  const float rough = roughly(x, y, p.features);
  const bool in_x = rough <= margin.nearer(of_x), in_y = rough <= margin.nearer(of_y);
  if ((in_x || rough > margin.farther(of_x)) && (in_y || rough > margin.farther(of_y)) && rough < INFINITY)
    return {in_x, in_y};
  const double d = exactly(x, y, p.features);
  return {d <= of_x, d <= of_y};
}

// A warp decides the open pairs of a row.
__global__ void __launch_bounds__(kThreads)
    open_kernel(const __grid_constant__ PairwiseArgs p, const __grid_constant__ Balls balls) {
  const int64_t row = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32, i = balls.x.first + row;
  if (row >= balls.x.count) return;
  const int lane = int(threadIdx.x % 32), words = (balls.y.count + 31) / 32;
  unsigned of_row[2] = {};
  for (int first = 0; first < words; first += 32) {
    const unsigned mine = first + lane < words ? balls.open[row * balls.words + first + lane] : 0u;
    if (!any_of_warp(mine)) continue;
    for (int w = 0; w < 32; ++w)
      for (unsigned bits = __shfl_sync(0xffffffffu, mine, w); bits; bits &= bits - 1) {
        const int64_t j = balls.y.index((first + w) * 32 + std::countr_zero(bits));
        const auto [in_x, in_y] = decided(p, i, j);
        of_row[0] += in_x, of_row[1] += in_y;
        if (lane == 0) balls.of_y.add(j, for_y(in_x, in_y));
      }
  }
  if (lane > 0) return;
  p.in_x[i] += of_row[0], p.over_x[i] += of_row[1];
}

}  // namespace genfast::inline GENFAST_ISA
