#include <algorithm>
#include <vector>

#include "kernel_sums_body.h"
#include "pairs.h"

namespace genfast::cpu::GENFAST_ISA {

static_assert(kTree == kColumns);

static double tree(double (&values)[kTree]) {
  for (int distance = kTree / 2; distance > 0; distance /= 2)
    for (int c = 0; c < distance; ++c) values[c] += values[c + distance];
  return values[0];
}

// to[feature][row]; of `width` rows those that are not there are zero.
template <int width>
static void pack_rows(double* to, const float* points, int64_t features, int count) {
  for (int64_t d = 0; d < features; ++d)
    for (int row = 0; row < width; ++row) to[d * width + row] = row < count ? double(points[row * features + d]) : 0.0;
}

struct Sums {
  double first = 0, second = 0;
};

// One row against `live` columns, the first of which is `self` columns before the row's own.
template <class Kernel>
static void add_row(const Kernel& kernel, const double* sums, int live, int64_t self, Sums& to) {
  double first[kTree], second[kTree];
  for (int c = 0; c < kTree; ++c) first[c] = kernel.value(sums[c]);
  for (int c = live; c < kTree; ++c) first[c] = 0;
  if (uint64_t(self) < kTree) first[self] = 0;
  for (int c = 0; c < kTree; ++c) second[c] = first[c] * first[c];
  to.first += tree(first), to.second += tree(second);
}

template <class Kernel>
static void sums_of_rows(const KernelSumsArgs& p, int64_t begin, int64_t end) {
  const Kernel kernel{p.gamma, p.offset};
  const int64_t most = packed_rows<double>(p.features, end - begin), step = most / kRows * kRows;
  const Buffer<double> x(p.features * most), y(p.features * kTree);
  std::vector<Sums> segment(most);
  for (; begin < end; begin += step) {
    const int64_t last = std::min(begin + step, end);
    for (int64_t i = begin; i < last; i += kRows)
      pack_rows<kRows>(x.data + (i - begin) * p.features, p.x + i * p.features, p.features,
                       int(std::min<int64_t>(kRows, last - i)));
    for (int64_t i = begin; i < last; ++i) p.first[i] = p.second[i] = 0;
    for (int64_t j = 0; j < p.m; j += kTree) {
      const int live = int(std::min<int64_t>(kTree, p.m - j));
      pack_rows<kTree>(y.data, p.y + j * p.features, p.features, live);
      if (j % kSegment == 0) std::fill(segment.begin(), segment.end(), Sums{});
      for (int64_t i = begin; i < last; i += kRows) {
        alignas(64) double sums[kRows][kTree];
        sums_of_tile<Kernel>(x.data + (i - begin) * p.features, y.data, p.features, sums);
        for (int64_t row = i; row < last && row < i + kRows; ++row)
          add_row(kernel, sums[row - i], live, p.exclude_self ? row - j : -1, segment[row - begin]);
      }
      if ((j + kTree) % kSegment && j + kTree < p.m) continue;
      for (int64_t i = begin; i < last; ++i)
        p.first[i] += segment[i - begin].first, p.second[i] += segment[i - begin].second;
    }
  }
}

void kernel_sums(const KernelSumsArgs& p, int64_t first, int64_t last) {
  p.kernel == PairKernel::rbf ? sums_of_rows<Rbf>(p, first, last) : sums_of_rows<Polynomial>(p, first, last);
}

}  // namespace genfast::cpu::GENFAST_ISA
