#pragma once
#include "../math/sum.h"
#include "packs.h"
#include "runge_kutta.h"

namespace genfast::inline GENFAST_ISA {

// The stages of one row.
struct Stages {
  const RungeKuttaArgs& p;
  const float *c, *error;
  int64_t stride;
  GENFAST_HD Stages(const RungeKuttaArgs& args, int64_t r)
      : p(args),
        c(args.c + r * args.stages),
        error(args.error ? args.error + r * args.stages : nullptr),
        stride(args.shape.batch * args.shape.features) {}

  // Stores x + sum_j c_j k_j, and sets `difference` to sum_j error_j k_j.  A stage that takes part in neither is not
  // read.
  template <bool with_error, class Tile, class Values>
  GENFAST_HD void operator()(const Tile& tile, const Values& x, Values& out, Values& difference) const {
    out = x;
    for (int k = 0; k < x.kParts; ++k) difference.v[k] = all(0.0f);
    // Not unrolled: the registers are needed for the tile.
    GENFAST_NO_UNROLL
    for (int j = 0; j < p.stages; ++j) {
      const float of_out = c[j], of_error = with_error ? error[j] : 0.0f;
      if (of_out == 0.0f && of_error == 0.0f) continue;
      const Values slope = tile.load(p.k + j * stride);
      for (int k = 0; k < x.kParts; ++k) {
        out.v[k] = fma_(all(of_out), slope.v[k], out.v[k]);
        if (with_error) difference.v[k] = fma_(all(of_error), slope.v[k], difference.v[k]);
      }
    }
    tile.store(p.out, out);
  }
};

struct RungeKuttaBody {
  using Packs = PacksOf<2, 4>;
  RungeKuttaArgs p;
  struct Row {
    Stages stages;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      typename Tile::Values out, unused;
      stages.template operator()<false>(tile, tile.load(stages.p.x), out, unused);
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {{p, r}}; }
};

struct RungeKuttaErrorBody {
  using Packs = PacksOf<2, 4>;
  static constexpr int kSums = 1;
  RungeKuttaArgs p;
  struct Row {
    Stages stages;
    template <class Tile>
    GENFAST_HD Terms<typename Tile::Values> operator()(const Tile& tile) const {
      const auto x = tile.load(stages.p.x);
      typename Tile::Values out, ratio;
      stages.template operator()<true>(tile, x, out, ratio);
      for (int k = 0; k < x.kParts; ++k) {
        const Floats size = at_least(abs_(x.v[k]), abs_(out.v[k]));
        ratio.v[k] = ratio.v[k] / fma_(all(stages.p.rtol), size, all(stages.p.atol));
        ratio.v[k] = ratio.v[k] * ratio.v[k];
      }
      tile.clear_tail(ratio);
      return {{ratio}};
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {{p, r}}; }
  GENFAST_HD void finish(int64_t r, const float* sum) const { p.err[r] = sqrtf(*sum / float(p.shape.features)); }
};

}  // namespace genfast::inline GENFAST_ISA
