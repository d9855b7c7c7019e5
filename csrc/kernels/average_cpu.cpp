#include <algorithm>

#include "average_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

namespace {

constexpr int64_t kBlock = 32 * kUnit;  // read from memory once, and from the nearest cache for every other length

void toward(float* averages, const float* values, int64_t count, const Toward& step) {
  for (int64_t at = 0; at < count; at += kLanes) {
    const int left = int(std::min<int64_t>(kLanes, count - at));
    store_part(averages + at, step(load_part(averages + at, left), load_part(values + at, left)), left);
  }
}

}  // namespace

void average(const AverageArgs& p, int64_t first, int64_t last) {
  if (first == last) return;
  int64_t tensor = std::upper_bound(p.starts, p.starts + p.tensors, first) - p.starts - 1;
  for (int64_t unit = first; unit < last; unit = p.starts[++tensor]) {
    const int64_t start = p.starts[tensor], end = std::min(p.sizes[tensor], (last - start) * kUnit);
    for (int64_t at = (unit - start) * kUnit; at < end; at += kBlock)
      for (int64_t k = 0; k < p.lengths; ++k)
        if (p.weights[k] > 0)
          toward(p.averages[tensor] + k * p.strides[tensor] + at, p.values[tensor] + at, std::min(kBlock, end - at),
                 Toward(p.weights[k]));
  }
}

}  // namespace genfast::cpu::GENFAST_ISA
