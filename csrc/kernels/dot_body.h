#pragma once
#include "../math/sum.h"
#include "dot.h"
#include "packs.h"

namespace genfast::inline GENFAST_ISA {

template <class T>
struct DotBody {
  using Packs = PacksOf<4, 4>;
  static constexpr int kSums = 1;
  DotArgs p;
  struct Row {
    const T *a, *b;
    template <class Tile>
    GENFAST_HD Terms<typename Tile::Values> operator()(const Tile& tile) const {
      auto products = tile.load(a);
      const auto other = tile.load(b);
      for (int k = 0; k < products.kParts; ++k) products.v[k] = products.v[k] * other.v[k];
      tile.clear_tail(products);
      return {{products}};
    }
  };
  GENFAST_HD Row row(int64_t) const { return {static_cast<const T*>(p.a), static_cast<const T*>(p.b)}; }
  GENFAST_HD void finish(int64_t r, const float* sum) const { p.out[r] = *sum; }
};

}  // namespace genfast::inline GENFAST_ISA
