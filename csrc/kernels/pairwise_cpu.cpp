#include <algorithm>
#include <vector>

#include "pairs.h"
#include "pairwise_body.h"

namespace genfast::cpu::GENFAST_ISA {

#if GENFAST_LANES == 1
static unsigned bits_of(bool is) { return is; }
#elif GENFAST_LANES == 8
static unsigned bits_of(Ints are) { return unsigned(_mm256_movemask_ps((__m256)are)); }
#else
static unsigned bits_of(Ints are) { return _mm512_movepi32_mask((__m512i)are); }
#endif

// Bit c: whether holds(c), a lane of answers, is true of column c.
template <class Holds>
static uint64_t columns_where(Holds holds) {
  uint64_t bits = 0;
  GENFAST_UNROLL
  for (int c = 0; c < kColumns; c += kLanes) bits |= uint64_t(bits_of(holds(c))) << c;
  return bits;
}

template <class Visit>
static void each_bit(uint64_t bits, Visit visit) {
  for (; bits; bits &= bits - 1) visit(std::countr_zero(bits));
}

// Puts (d, j) into a sorted list of k, whose last one falls out.
static void insert(double* distance, int64_t* index, int64_t k, double d, int64_t j) {
  const auto follows = [&](int64_t at) { return d < distance[at] || (d == distance[at] && j < index[at]); };
  int64_t at = k - 1;
  if (!follows(at)) return;
  for (; at > 0 && follows(at - 1); --at) distance[at] = distance[at - 1], index[at] = index[at - 1];
  distance[at] = d, index[at] = j;
}

// The largest of some points: what holds of it, holds of all.
struct Largest {
  double square = 0, error = 0;
  void take(const Rounded& point) {
    square = std::max(square, double(point.square)), error = std::max(error, double(point.error));
  }
};

struct Row {
  Rounded point;
  double reach;  // of its ball, or of its k nearest so far
};

// 64 columns of y, packed, and what belongs to them.
struct Panel {
  int64_t first;
  uint64_t live;  // the columns that there are
  Rounded point[kColumns];
  Largest largest;
  alignas(64) float half[kColumns];  // |b|^2 / 2
  alignas(64) float outside[kColumns];
  alignas(64) float inside[kColumns];
  int64_t over[kColumns], in[kColumns];  // counts, of these rows
};

template <class Number>
class Block {
 public:
  Block(const PairwiseArgs& p, int64_t first, int64_t last)
      : p_(p),
        margin_(p.features, p.scale),
        units_(units_of<Number>(p.features)),
        most_(packed_rows<float>(units_, last - first)),
        x_(units_ * most_),
        y_(units_ * kColumns),
        rows_(most_) {
    const int64_t step = most_ / kRows * kRows;
    for (; first < last; first += step) run(first, std::min(first + step, last));
  }

 private:
  void run(int64_t first, int64_t last) {
    first_ = first, largest_ = {};
    for (int64_t i = first; i < last; i += kRows) {
      const int count = int(std::min<int64_t>(kRows, last - i));
      Rounded points[kRows];
      pack_points<kRows>(x_.data + (i - first) * units_, p_.x, i, count, points);
      for (int r = 0; r < count; ++r) begin_row(i + r, points[r]);
    }
    for (int64_t j = 0; j < p_.m; j += kColumns) {
      begin_panel(j);
      for (int64_t i = first; i < last; i += kRows) {
        alignas(64) float sums[kRows][kColumns];
        sums_of_tile<Number>(x_.data + (i - first) * units_, y_.data, units_, sums);
        for (int64_t row = i; row < last && row < i + kRows; ++row)
          p_.k > 0 ? nearest(row, sums[row - i]) : balls(row, sums[row - i]);
      }
      if (p_.k == 0) end_panel();
    }
  }

  template <int width>
  void pack_points(float* to, const float* points, int64_t first, int count, Rounded* rounded) const {
    Floats square[width] = {}, error[width] = {};
    const auto value = [&](int row, int64_t at, int64_t left) {
      const int there = int(std::min<int64_t>(left, kLanes));
      const float* from = points + (first + row) * p_.features;
      return there <= 0 ? all(0.0f) : load_part(from + at, there) * all(p_.scale) - load_part(p_.center + at, there);
    };
    pack<Number, width>(to, p_.features, count, value, [&](int row, const auto& v, const auto& b) {
      for (int e = 0; e < Number::kElements; ++e) {
        const Floats off = v[e] - b[e];
        square[row] = square[row] + b[e] * b[e], error[row] = error[row] + off * off;
      }
    });
    for (int row = 0; row < count; ++row) rounded[row] = margin_.rounded(total(square[row]), total(error[row]));
  }

  static float total(Floats a) {
    float lane[kLanes], sum = 0;
    store_lane(lane, a);
    for (float v : lane) sum += v;
    return sum;
  }

  void begin_row(int64_t i, const Rounded& point) {
    largest_.take(point);
    rows_[i - first_] = {point, p_.k > 0 ? double(INFINITY) : margin_.reach(radius_at(p_.radius_x, i))};
    std::fill_n(p_.distance + i * p_.k, p_.k, double(INFINITY));
    std::fill_n(p_.index + i * p_.k, p_.k, kNobody);
  }

  void begin_panel(int64_t first) {
    Panel& panel = panel_;
    const int count = int(std::min<int64_t>(kColumns, p_.m - first));
    panel.first = first, panel.live = ~uint64_t(0) >> (kColumns - count), panel.largest = {};
    std::fill_n(panel.point, kColumns, Rounded{});
    pack_points<kColumns>(y_.data, p_.y, first, count, panel.point);
    for (int c = 0; c < kColumns; ++c) {
      const Rounded& point = panel.point[c];
      panel.largest.take(point);
      panel.half[c] = 0.5f * point.square;
      if (p_.k > 0) continue;
      const double reach = c < count ? margin_.reach(radius_at(p_.radius_y, first + c)) : -1.0;
      const auto [outside, inside] = margin_.limits(reach, point.square, point.error + largest_.error,
                                                    margin_.rounding(point.square, largest_.square));
      panel.outside[c] = outside, panel.inside[c] = inside, panel.over[c] = panel.in[c] = 0;
    }
  }

  // Other threads count the same columns.
  void end_panel() {
    each_bit(panel_.live, [&](int c) {
      __atomic_fetch_add(p_.over_y + panel_.first + c, panel_.over[c], __ATOMIC_RELAXED);
      __atomic_fetch_add(p_.in_y + panel_.first + c, panel_.in[c], __ATOMIC_RELAXED);
    });
  }

  double exactly(int64_t i, int c) const {
    return squared_distance(p_.x + i * p_.features, p_.y + (panel_.first + c) * p_.features, p_.features);
  }

  Limits limits_of(const Row& row, double square, double error) const {
    return margin_.limits(row.reach, row.point.square, row.point.error + error,
                          margin_.rounding(row.point.square, square));
  }

  Floats closeness(const float* sums, int c) const { return load_lane(sums + c) - load_lane(panel_.half + c); }

  void nearest(int64_t i, const float* sums) {
    Row& row = rows_[i - first_];
    const Floats outside = all(limits_of(row, panel_.largest.square, panel_.largest.error).outside);
    uint64_t candidates = panel_.live & ~columns_where([&](int c) { return closeness(sums, c) < outside; });
    if (p_.exclude_self && uint64_t(i - panel_.first) < kColumns) candidates &= ~(uint64_t(1) << (i - panel_.first));
    if (candidates) decide(i, row, sums, candidates);
  }

  void decide(int64_t i, Row& row, const float* sums, uint64_t candidates) {
    const Panel& panel = panel_;
    if (row.reach == INFINITY && std::popcount(candidates) >= p_.k) {  // the k closest of a first panel bound all
      float found[kColumns];
      int count = 0;
      each_bit(candidates, [&](int c) { found[count++] = sums[c] - panel.half[c]; });
      std::nth_element(found, found + p_.k - 1, found + count, std::greater<>());
      row.reach = margin_.reach_of(found[p_.k - 1], row.point.square, row.point.error + panel.largest.error,
                                   margin_.rounding(row.point.square, panel.largest.square));
    }
    double* distance = p_.distance + i * p_.k;
    each_bit(candidates, [&](int c) {
      if (sums[c] - panel.half[c] < limits_of(row, panel.point[c].square, panel.point[c].error).outside) return;
      insert(distance, p_.index + i * p_.k, p_.k, exactly(i, c), panel.first + c);
      row.reach = std::min(row.reach, margin_.reach(distance[p_.k - 1]));
    });
  }

  void balls(int64_t i, const float* sums) {
    Panel& panel = panel_;
    const Row& row = rows_[i - first_];
    const Limits limits = limits_of(row, panel.largest.square, panel.largest.error);
    const Floats outside = all(limits.outside), inside = all(limits.inside), half = all(0.5f * row.point.square);
    const uint64_t away_x = columns_where([&](int c) { return closeness(sums, c) < outside; });
    const uint64_t away_y =
        columns_where([&](int c) { return load_lane(sums + c) - half < load_lane(panel.outside + c); });
    if (!(panel.live & ~(away_x & away_y))) return;
    uint64_t in_x = columns_where([&](int c) { return closeness(sums, c) >= inside; });
    uint64_t in_y = columns_where([&](int c) { return load_lane(sums + c) - half >= load_lane(panel.inside + c); });
    each_bit(panel.live & ~((away_x | in_x) & (away_y | in_y)), [&](int c) {
      const double d = exactly(i, c);
      const auto set = [&](uint64_t& bits, bool is) { bits = (bits & ~(uint64_t(1) << c)) | uint64_t(is) << c; };
      set(in_x, d <= radius_at(p_.radius_x, i));
      set(in_y, d <= radius_at(p_.radius_y, panel.first + c));
    });
    in_x &= panel.live, in_y &= panel.live;
    p_.in_x[i] += std::popcount(in_x), p_.over_x[i] += std::popcount(in_y);
    each_bit(in_x, [&](int c) { ++panel.over[c]; });
    each_bit(in_y, [&](int c) { ++panel.in[c]; });
  }

  const PairwiseArgs& p_;
  const Margin margin_;
  const int64_t units_, most_;  // rows that there is room for
  const Buffer<float> x_, y_;
  std::vector<Row> rows_;
  int64_t first_;  // row of the block
  Largest largest_;
  Panel panel_;
};

void pairwise(const PairwiseArgs& p, int64_t first, int64_t last) {
#if GENFAST_LANES == 16
  if (__builtin_cpu_supports("avx512bf16")) return void(Block<BFloat16Pair>(p, first, last));
#endif
  Block<Float32>(p, first, last);
}

}  // namespace genfast::cpu::GENFAST_ISA
