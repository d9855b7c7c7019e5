#include "dynamic_threshold_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

static float quantile(const float* d, int64_t n, double q) {
  const QuantilePlace place(q, n);
  Selection selection;
  selection.rank = place.below;
  for (int digit = 0; digit < kDigits; ++digit) {
    uint32_t histogram[kBins + 1] = {};
    for (int64_t i = 0; i < n; ++i) ++histogram[selection.bin(magnitude_bits(d[i]), digit)];
    uint32_t bin = 0, before = 0;
    while (before + histogram[bin] <= selection.rank) before += histogram[bin++];
    selection.take(bin, digit, before, histogram[bin]);
  }
  uint32_t above = selection.prefix;
  if (place.weight > 0 && selection.rank + 1 == selection.count) {
    above = 0xffffffffu;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t bits = magnitude_bits(d[i]);
      if (bits > selection.prefix && bits < above) above = bits;
    }
  }
  return interpolated(selection.prefix, above, place.weight);
}

void dynamic_threshold(const DynamicThresholdArgs& p, int64_t first, int64_t last) {
  const int64_t n = p.shape.features, units = units_per_row(p.shape);
  if (n == 0) return;
  for (int64_t row = first; row < last; ++row) {
    p.threshold[row] = bounded(p, quantile(p.d + row * n, n, p.quantile));
    map(p.shape, row * units, (row + 1) * units, DynamicThresholdBody{p});
  }
}

}  // namespace genfast::cpu::GENFAST_ISA
