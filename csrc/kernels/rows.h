#pragma once
// The CPU driver of rows that are taken one by one: the lanes of a row, and sums over it in the order of math/sum.h.
#include "../math/sum.h"
#include "map.h"

namespace genfast::inline GENFAST_ISA {

// kLanes consecutive elements of a row.
struct Lane {
  int64_t first;
  template <class T>
  GENFAST_HD Floats load(const T* row) const {
    return load_lane(row + first);
  }
  template <class T>
  GENFAST_HD void store(T* row, Floats a) const {
    store_lane(row + first, a);
  }
  template <class T>
  GENFAST_HD void stream(T* row, Floats a) const {
    stream_lane(row + first, a);
  }
  GENFAST_HD Floats clear_tail(Floats a) const { return a; }
};

// The last elements of a row, fewer; beyond its end one reads zeros.
struct LastLane {
  int64_t first;
  int count;
  template <class T>
  GENFAST_HD Floats load(const T* row) const {
    return load_part(row + first, count);
  }
  template <class T>
  GENFAST_HD void store(T* row, Floats a) const {
    store_part(row + first, a, count);
  }
  template <class T>
  GENFAST_HD void stream(T* row, Floats a) const {
    store(row, a);
  }
  GENFAST_HD Floats clear_tail(Floats a) const { return first_of(a, count); }
};

// visit(lane) for each lane of [first, last).
template <class Visit>
GENFAST_HD void lanes(int64_t first, int64_t last, Visit visit) {
  for (; first + kLanes <= last; first += kLanes) visit(Lane{first});
  if (kLanes > 1 && first < last) visit(LastLane{first, int(last - first)});
}

// The end of the tree of math/sum.h: those 8, 4, 2 and 1 apart.
#if GENFAST_LANES == 1
GENFAST_HD float sum_of_lane(Floats a) { return a; }
#else
GENFAST_HD float sum_of_lane(Floats a) {
#if GENFAST_LANES == 16
  const __m256 b = _mm512_castps512_ps256((__m512)a) + _mm512_extractf32x8_ps((__m512)a, 1);
#else
  const __m256 b = (__m256)a;
#endif
  const __m128 c = _mm256_castps256_ps128(b) + _mm256_extractf128_ps(b, 1), d = c + _mm_movehl_ps(c, c);
  return d[0] + d[1];
}
#endif

// Adds term(lane), `sums` values, over [begin, end), at most a chunk, of which the first `size` accumulators get any.
// They are gone through in two groups where all would not fit in registers; the groups are 128 apart.
template <int size, int sums, class Term>
GENFAST_HD void sum_chunk(int64_t begin, int64_t end, float (&total)[sums], Term term) {
  constexpr int whole = size / kLanes, groups = whole * sums > 16 && whole > 1 ? 2 : 1, held = whole / groups;
  const int left = int((end - begin) % kLanes);
  const int64_t last = end - left;
  Terms<Floats, sums> tail{};
  if (kLanes > 1 && left) {
    const LastLane lane{last, left};
    tail = term(lane);
    for (Floats& t : tail.of) t = lane.clear_tail(t);
  }
  Floats level[sums][held];
  for (int group = 0; group < groups; ++group) {
    Floats sum[sums][held] = {};
    const auto add = [&](int k, const Terms<Floats, sums>& terms) {
      GENFAST_UNROLL
      for (int i = 0; i < sums; ++i) sum[i][k] = sum[i][k] + terms.of[i];
    };
    int64_t first = begin + group * held * kLanes;
    for (; first + held * kLanes <= end; first += size) {
      GENFAST_UNROLL
      for (int k = 0; k < held; ++k) add(k, term(Lane{first + k * kLanes}));
    }
    if (kLanes == 1) {  // the accumulators are in memory
      for (int k = 0; k < held && first < end; ++k, ++first) add(k, term(Lane{first}));
    } else if (first < end) {  // what is left goes through memory: `term` is compiled once for it, not `held` times
      Terms<Floats, sums> rest[held];
      int count = 0;
      for (; count < held && first + kLanes <= end; ++count, first += kLanes) rest[count] = term(Lane{first});
      if (count < held && first < end) rest[count++] = tail;
      GENFAST_UNROLL
      for (int k = 0; k < held; ++k) {
        if (k < count) add(k, rest[k]);
      }
    }
    GENFAST_UNROLL
    for (int i = 0; i < sums; ++i) {
      GENFAST_UNROLL
      for (int k = 0; k < held; ++k) level[i][k] = group == 0 ? sum[i][k] : level[i][k] + sum[i][k];
    }
  }
  GENFAST_UNROLL
  for (int i = 0; i < sums; ++i) {
    GENFAST_UNROLL
    for (int distance = held / 2; distance > 0; distance /= 2) {
      GENFAST_UNROLL
      for (int k = 0; k < distance; ++k) level[i][k] = level[i][k] + level[i][k + distance];
    }
    total[i] += sum_of_lane(level[i][0]);
  }
}

// Adds term(lane) over a row, in the order of math/sum.h.  A short row leaves most accumulators zero.
template <int sums, class Term>
GENFAST_HD void sum_row(int64_t features, float (&total)[sums], Term term) {
  for (float& t : total) t = 0.0f;
  if (features <= kAccumulators / 4) return sum_chunk<kAccumulators / 4>(0, features, total, term);
  for (int64_t begin = 0; begin < features; begin += kChunk)
    sum_chunk<kAccumulators>(begin, begin + kChunk < features ? begin + kChunk : features, total, term);
}

}  // namespace genfast::inline GENFAST_ISA
