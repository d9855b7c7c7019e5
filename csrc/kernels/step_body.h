#pragma once
#include "../math/noise.h"
#include "packs.h"
#include "step.h"

namespace genfast::inline GENFAST_ISA {

// `slots`: how many of history there are.  `noisy`: some row of the plan has noise.  A plan without needs half the
// registers.
template <class T, int slots, bool noisy>
struct StepBody {
  using Packs = PacksOf<(slots < 2 ? 2 : 1), 4, (slots < 2 ? 3 : 2)>;
  StepArgs p;
  struct Row {
    const StepArgs& p;
    StepCoefficients c;
    const SlotCoefficients* of_slots;
    StepCode code;
    NoiseSum noise;
    const T* unconditional;  // null where the sample is not guided
    float w;

    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      using Values = typename Tile::Values;
      constexpr int parts = Values::kParts;
      // All loads come first: they are in flight while the noise is made.
      const Values x = tile.load(p.x);
      Values d = tile.load(static_cast<const T*>(p.net)), h[slots > 0 ? slots : 1];
      GENFAST_UNROLL
      for (int j = 0; j < slots; ++j)
        if (code.reads >> j & 1) h[j] = tile.load(slot(j));
      if (unconditional) {
        const Values u = tile.load(unconditional);
        for (int k = 0; k < parts; ++k) d.v[k] = guided(w, d.v[k], u.v[k]);
      }

      Values next, z;
      // A GPU makes the noise while what was loaded is on its way; a CPU has the registers for it afterwards.
      const bool has_noise = noisy && noise.count;
      if (kLanes == 1 && has_noise) z = tile.normal(noise);
      for (int k = 0; k < parts; ++k) d.v[k] = denoised(c, x.v[k], d.v[k]);
      if (p.clamp)
        for (int k = 0; k < parts; ++k) d.v[k] = at_most(at_least(d.v[k], all(p.low)), all(p.high));
      for (int k = 0; k < parts; ++k) next.v[k] = fma_(all(c.b), d.v[k], all(c.a) * x.v[k]);
      GENFAST_UNROLL
      for (int j = 0; j < slots; ++j)
        if (code.reads >> j & 1)
          for (int k = 0; k < parts; ++k) next.v[k] = fma_(all(c.e[j]), h[j].v[k], next.v[k]);
      if (has_noise) {
        if (kLanes > 1) z = tile.normal(noise);
        for (int k = 0; k < parts; ++k) next.v[k] = next.v[k] + z.v[k];
      }
      tile.store(p.x, next);
      if (p.y) {
        for (int k = 0; k < parts; ++k) next.v[k] = all(c.c_in) * next.v[k];
        tile.store(static_cast<T*>(p.y), next);
      }
      for (int i = 0; i < slots; ++i)
        if (code.writes >> i & 1) {
          const SlotCoefficients s = of_slots[i];
          Values to;
          for (int k = 0; k < parts; ++k) to.v[k] = fma_(all(s.q), d.v[k], all(s.p) * x.v[k]);
          GENFAST_UNROLL
          for (int j = 0; j < slots; ++j)
            if (code.reads >> j & 1)
              for (int k = 0; k < parts; ++k) to.v[k] = fma_(all(s.m[j]), h[j].v[k], to.v[k]);
          tile.store(slot(i), to);
        }
    }
    GENFAST_HD float* slot(int k) const { return p.history + k * p.shape.batch * p.shape.features; }
  };

  GENFAST_HD Row row(int64_t r) const {
    const int64_t at = p.row[r];
    const bool valid = at >= 0 && at < p.rows;
    const StepRow& table = reinterpret_cast<const StepRow*>(p.coefficients)[valid ? at : 0];
    StepCode code = reinterpret_cast<const StepCode*>(p.codes)[valid ? at : 0];
    code.reads &= (1u << p.slots) - 1, code.writes &= (1u << p.slots) - 1;
    StepCoefficients c = table.step;
    if (!valid || code.first < 0 || code.first > code.last || code.last > p.terms)
      c.a = as_nan(), code.last = code.first = 0;
    const float w = p.unconditional ? p.guidance[r] : 1.0f;
    const NoiseSum noise{uint64_t(p.keys[2 * r]), uint64_t(p.keys[2 * r + 1]), p.streams + code.first,
                         p.weights + code.first, code.last - code.first};
    return {p, c, table.slot, code, noise, w != 1.0f ? static_cast<const T*>(p.unconditional) : nullptr, w};
  }
  static GENFAST_HD float as_nan() { return std::bit_cast<float>(0x7fc00000u); }
};

}  // namespace genfast::inline GENFAST_ISA
