#pragma once
#include "../math/sum.h"
#include "norm_modulate.h"

namespace genfast::inline GENFAST_ISA {

// Of feature f of a sample: out = factor x_hat + offset.
GENFAST_HD Floats factor(Floats weight, Floats scale) { return weight * (all(1.0f) + scale); }
GENFAST_HD Floats offset(Floats bias, Floats scale, Floats shift) { return fma_(bias, all(1.0f) + scale, shift); }

GENFAST_HD Floats gated(Floats residual, Floats gate, Floats y) { return fma_(gate, y, residual); }

// Of a row.  The mean is that of the distances from the first element, so that a large mean costs no digits of it; the
// variance is that of the distances from the mean, a second pass over what is at hand.
struct Moments {
  float mean, rstd;
  GENFAST_HD Floats normalized(Floats v) const { return (v - all(mean)) * all(rstd); }
};
GENFAST_HD float mean_of(float first, float sum, int64_t features) { return first + sum / float(features); }
GENFAST_HD float rstd_of(float squares, int64_t features, float eps) {
  return 1.0f / sqrtf(squares / float(features) + eps);
}

// With d = factor grad_out:  grad_v = rstd (d - mean(d) - x_hat mean(d x_hat)), without mean(d) for the rms variant.
struct RowGradient {
  Moments at;
  float mean, slope;
  GENFAST_HD Floats operator()(Floats d, Floats x_hat, Floats too) const {
    return fma_(all(at.rstd), fma_(x_hat, all(-slope), d - all(mean)), too);
  }
};

// Of float32; null where there is none.
GENFAST_HD const float* row_of(const Small& small, int64_t sample) {
  return static_cast<const float*>(small.data) + sample * small.stride;
}

struct AddUnitsBody {
  static constexpr int kAhead = 4;
  AddUnitsArgs p;
  struct Row {
    float* out;
    const float* parts;
    int64_t units, stride;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      if (!out) return;
      typename Tile::Values sum{};
      const float* from = parts;
      const auto next = [&] {
        const float* part = from;
        from += stride;
        return tile.load(part);
      };
      const auto add = [&](const auto& part) {
        for (int k = 0; k < sum.kParts; ++k) sum.v[k] = sum.v[k] + part.v[k];
      };
      int64_t unit = 0;
      GENFAST_NO_UNROLL
      for (; unit + kAhead <= units; unit += kAhead) {
        typename Tile::Values some[kAhead];  // asked for together
        GENFAST_UNROLL
        for (auto& part : some) part = next();
        GENFAST_UNROLL
        for (const auto& part : some) add(part);
      }
      GENFAST_NO_UNROLL
      for (; unit < units; ++unit) add(next());
      tile.store(out, sum);
    }
  };
  // A tile adds row * features to every pointer.
  GENFAST_HD Row row(int64_t r) const {
    // sums is 1, 2 or 3, none of which takes a division at run time.
    const int64_t n = p.shape.features, sample = p.sums == 3 ? r / 3 : r >> (p.sums - 1), sum = r - sample * p.sums;
    const AddUnitsArgs::Out& to = p.out[sum];
    return {to.data ? to.data + sample * to.stride - r * n : nullptr, p.parts + (sample * (p.units - 1) * p.sums) * n,
            p.units, p.sums * n};
  }
};

}  // namespace genfast::inline GENFAST_ISA
