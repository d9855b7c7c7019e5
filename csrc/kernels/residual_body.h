#pragma once
#include "../math/quotient.h"
#include "residual.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

template <class T>
struct ResidualBody {
  ResidualArgs p;
  Quotient by_channels{p.channels};
  struct Row {
    T* out;
    const T *x, *y;
    Small bias;
    Floats of_row, scale;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto sum = tile.load(x);
      const auto y = tile.load(this->y);
      if (bias.data) {
        with_row<T>(bias, 0, [&](const auto* row) {
          const auto b = tile.load(row - tile.row * tile.shape.features);  // a tile adds row * features itself
          for (int k = 0; k < sum.kParts; ++k) sum.v[k] = scale * (sum.v[k] + (y.v[k] + b.v[k]));
        });
      } else {
        for (int k = 0; k < sum.kParts; ++k) sum.v[k] = scale * (sum.v[k] + (y.v[k] + of_row));
      }
      tile.store(out, sum);
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    const int64_t channel = r - by_channels(r) * p.channels;
    const float of_row = p.row_bias.data
                             ? with_row<T>(p.row_bias, 0, [&](const auto* row) { return widen(row[channel]); })
                             : -0.0f;  // adds nothing to -0
    return {static_cast<T*>(p.out),
            static_cast<const T*>(p.x),
            static_cast<const T*>(p.y),
            p.bias,
            all(of_row),
            all(p.scale)};
  }
};

}  // namespace genfast::inline GENFAST_ISA
