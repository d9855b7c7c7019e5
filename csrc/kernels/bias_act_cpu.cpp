#include <algorithm>

#include "bias_act_body.h"
#include "map.h"

namespace genfast::cpu::GENFAST_ISA {

void bias_act(const BiasActArgs& p, int64_t first, int64_t last) {
  with_type_and_act(
      p, [&](auto type, auto act) { map(p.shape, first, last, BiasActBody<decltype(type), decltype(act)>{p}); });
}

// Row after row, as they lie in memory, so that the sums are what is read again.
template <class T, class Act>
static void with_sums(const BiasActBackwardArgs& p, int64_t first, int64_t last) {
  const int64_t n = p.shape.features, across = p.pieces();
  const auto gradient = gradient_of<T>(p);
  for (int64_t piece = first; piece < last; ++piece) {
    const int64_t unit = piece / across, begin = piece % across * p.columns(), end = std::min(begin + p.columns(), n);
    float* sums = p.parts + unit * n;
    std::fill(sums + begin, sums + end, 0.0f);
    for (int64_t row = unit * kUnit; row < std::min((unit + 1) * kUnit, p.shape.batch); ++row)
      for (int64_t at = begin; at < end; at += CpuTile::kSize)
        tile_at(p.shape, row, at, [&](const auto& tile) {
          const auto g = gradient.template store<Act>(tile, bias_of(tile, p.bias));
          auto sum = tile.load(sums - row * n);
          for (int k = 0; k < sum.kParts; ++k) sum.v[k] = sum.v[k] + as_stored<T>(g.v[k]);
          tile.store(sums - row * n, sum);
        });
  }
}

void bias_act_backward(const BiasActBackwardArgs& p, int64_t first, int64_t last) {
  with_type_and_act(p, [&](auto type, auto act) {
    using T = decltype(type);
    using Act = decltype(act);
    if (p.parts)
      with_sums<T, Act>(p, first, last);
    else
      map(p.shape, first, last, BiasActBackwardBody<T, Act>{p});
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
