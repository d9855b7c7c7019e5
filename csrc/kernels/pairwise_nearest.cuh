#pragma once
// The k nearest: products say who may be among them, the likeliest of those are computed in float64 first.
#include "pairwise_products.cuh"

namespace genfast::inline GENFAST_ISA {

using Entry = unsigned long long;  // the bits of a float, then a place in y's part: sorted as the floats, not negative

constexpr Entry kNone = ~Entry(0);
__device__ inline Entry entry(float value, int q) { return Entry(std::bit_cast<uint32_t>(value)) << 32 | Entry(q); }
__device__ inline float value_of(Entry e) { return std::bit_cast<float>(uint32_t(e >> 32)); }
__device__ inline int place_of(Entry e) { return int(uint32_t(e)); }

// Lists, in any order, the pairs that the balls of x do not exclude.
class Candidates {
 public:
  static constexpr bool kWide = true;
  Part x, y;
  unsigned* counts;  // [rows], which goes on where a list is full
  Entry* lists;      // [rows, capacity]: the bits of the sum of products
  int capacity;

  __device__ void take(const Place& place, const Sums& sums) const {
    GENFAST_UNROLL
    for (int r = 0; r < 8; r += kRowsAtOnce) take(place, sums, r);
  }

 private:
  static constexpr int kRowsAtOnce = 4;  // as many as there are registers for

  __device__ void take(const Place& place, const Sums& sums, int first) const {
    float scale[kRowsAtOnce];
    Ball ball[kRowsAtOnce];
    unsigned open[kRowsAtOnce] = {};
    GENFAST_UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const int row = place.row + Place::row_of(first + r);
      scale[r] = x.of[row].scale, ball[r] = x.balls[row];
    }
    GENFAST_UNROLL
    for (int c = 0; c < 16; ++c) {
      const int column = place.column + Place::column_of(c);
      const Point point = y.of[column];
      const unsigned bit = column < y.count ? 1u << c : 0u;
      GENFAST_UNROLL
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const float dot = sum_at(sums, first + r, c) * scale[r] * point.scale;
        open[r] |= ball[r].surely_out(dot, point) ? 0u : bit;
      }
    }
    GENFAST_UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const int row = place.row + Place::row_of(first + r);
      if (open[r] == 0 || row >= x.count) continue;
      unsigned at = atomicAdd(counts + row, unsigned(std::popcount(open[r])));
      Entry* list = lists + int64_t(row) * capacity;
      GENFAST_UNROLL
      for (int c = 0; c < 16; ++c) {
        if (!(open[r] >> c & 1)) continue;
        if (at < unsigned(capacity)) list[at] = entry(sum_at(sums, first + r, c), place.column + Place::column_of(c));
        ++at;
      }
    }
  }
};

// A warp has one row of x.
class Row {
 public:
  __device__ Row(const PairwiseArgs& p, const Candidates& found, float scale, int64_t row)
      : p_(p),
        found_(found),
        margin_(p.features, scale),
        row_(row),
        i_(found.x.first + row),
        distance_(p.distance + i_ * p.k),
        index_(p.index + i_ * p.k) {}

  __device__ void clear() const {
    for (int64_t at = lane(); at < p_.k; at += 32) distance_[at] = double(INFINITY), index_[at] = kNobody;
    __syncwarp();
  }

  // Computes what may be among the k nearest.
  __device__ void decide() const {
    const unsigned count = found_.counts[row_];
    __syncwarp();
    if (count == 0) return;
    if (lane() == 0) found_.counts[row_] = 0;
    count > unsigned(found_.capacity) ? all() : likeliest_first(int(count));
    const Point point = found_.x.of[row_];
    if (lane() == 0) found_.x.balls[row_] = margin_.ball(margin_.reach(distance_[p_.k - 1]), point);
  }

 private:
  static __device__ int lane() { return int(threadIdx.x % 32); }

  // There were too many to list them.
  __device__ void all() const {
    const DifferenceMargin margin(p_.features);
    for (int q = 0; q < found_.y.count; ++q) {
      const float rough = roughly(x(), y(q), p_.features);
      if (!(rough > margin.farther(distance_[p_.k - 1]) && rough < INFINITY)) compute(q, q);
    }
  }

  // By lower bounds of their distances, until one is beyond the k nearest so far.
  __device__ void likeliest_first(int count) const {
    Entry* list = found_.lists + row_ * found_.capacity;
    const Point i = found_.x.of[row_];
    for (int e = lane(); e < count; e += 32) {
      const int q = place_of(list[e]);
      const Point j = found_.y.of[q];
      list[e] = entry(margin_.at_least(i, j, value_of(list[e]) * i.scale * j.scale), q);
    }
    for (Entry last = 0;;) {
      const Entry first = least_from(list, count, last), second = least_from(list, count, first + 1);
      const double reach = margin_.reach(distance_[p_.k - 1]);
      if (first == kNone || double(value_of(first)) > reach) return;
      const bool both = second != kNone && double(value_of(second)) <= reach;
      compute(place_of(first), place_of(both ? second : first));
      if (!both) return;
      last = second + 1;
    }
  }

  // The least entry that is not less than `from`.
  static __device__ Entry least_from(const Entry* list, int count, Entry from) {
    Entry least = kNone;
    for (int e = lane(); e < count; e += 32)
      if (list[e] >= from && list[e] < least) least = list[e];
    GENFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
      const Entry other = __shfl_xor_sync(0xffffffffu, least, distance);
      least = other < least ? other : least;
    }
    return least;
  }

  __device__ const float* x() const { return p_.x + i_ * p_.features; }
  __device__ const float* y(int q) const { return p_.y + found_.y.index(q) * p_.features; }

  // One pair, or two at a time.
  __device__ void compute(int q, int other) const {
    const double d = exactly(x(), y(lane() < 16 ? q : other), p_.features);
    insert(__shfl_sync(0xffffffffu, d, 0), found_.y.index(q));
    if (other != q) insert(__shfl_sync(0xffffffffu, d, 16), found_.y.index(other));
  }

  // Puts (d, j) into the sorted list, whose last one falls out.
  __device__ void insert(double d, int64_t j) const {
    if (p_.exclude_self && j == i_) return;
    const auto follows = [&](double other, int64_t at) { return d < other || (d == other && j < at); };
    for (int64_t end = p_.k; end > 0; end -= 32) {  // the last 32 first, each of which may move by one
      const int64_t at = end - 1 - lane();
      const bool there = at >= 0, moves = there && follows(distance_[at], index_[at]);
      const bool from_left = there && at > 0 && follows(distance_[at - 1], index_[at - 1]);
      const double left = from_left ? distance_[at - 1] : d;
      const int64_t left_index = from_left ? index_[at - 1] : j;
      const bool goes_on = __shfl_sync(0xffffffffu, int(from_left), 31) != 0;
      if (moves) distance_[at] = left, index_[at] = left_index;
      __syncwarp();
      if (!goes_on) return;
    }
  }

  const PairwiseArgs& p_;
  const Candidates& found_;
  const PairMargin margin_;
  const int64_t row_, i_;
  double* const distance_;
  int64_t* const index_;
};

__global__ void __launch_bounds__(kThreads)
    decide_kernel(const __grid_constant__ PairwiseArgs p, const __grid_constant__ Candidates found, const float* scale,
                  bool first) {
  const int64_t row = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= found.x.count) return;
  const Row it(p, found, *scale, row);
  if (first) it.clear();
  it.decide();
}

}  // namespace genfast::inline GENFAST_ISA
