#pragma once
#include <type_traits>

#include "../math/activation.h"
#include "glu.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

// Where the halves of row r of base [batch, 2 features] begin, for a tile, which adds r * features itself.
template <class T, Glu kind>
struct Halves {
  T *gate, *value;
  GENFAST_HD Halves(T* base, const Shape& shape, int64_t r) {
    T *a = base + r * shape.features, *b = a + shape.features;
    gate = kind == Glu::geglu ? b : a;
    value = kind == Glu::geglu ? a : b;
  }
};

template <class T, Glu kind>
using GateOf = std::conditional_t<kind == Glu::geglu, Gelu<T>, Silu>;

template <class T, Glu kind>
struct GluBody {
  GluArgs p;
  struct Row {
    Halves<const T, kind> x;
    T* y;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      const auto gate = tile.load(x.gate);
      auto out = tile.load(x.value);
      for (int k = 0; k < out.kParts; ++k) out.v[k] = out.v[k] * GateOf<T, kind>::value(gate.v[k]);
      tile.store(y, out);
    }
  };
  GENFAST_HD Row row(int64_t r) const { return {{static_cast<const T*>(p.x), p.shape, r}, static_cast<T*>(p.y)}; }
};

template <class T, Glu kind>
struct GluBackwardBody {
  GluBackwardArgs p;
  struct Row {
    Halves<const T, kind> x;
    Halves<T, kind> grad;
    const T* grad_y;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto gate = tile.load(x.gate), value = tile.load(x.value);
      const auto g = tile.load(grad_y);
      for (int k = 0; k < g.kParts; ++k) {
        const Floats u = gate.v[k];
        gate.v[k] = g.v[k] * value.v[k] * GateOf<T, kind>::slope(u);
        value.v[k] = g.v[k] * GateOf<T, kind>::value(u);
      }
      tile.store(grad.gate, gate);
      tile.store(grad.value, value);
    }
  };
  GENFAST_HD Row row(int64_t r) const {
    return {{static_cast<const T*>(p.x), p.shape, r},
            {static_cast<T*>(p.grad_x), p.shape, r},
            static_cast<const T*>(p.grad_y)};
  }
};

// with_glu(p, f) calls f(T{}, kind) with the type and the kind that p names.
template <class Args, class Function>
inline void with_glu(const Args& p, Function f) {
  with_type(p.dtype, [&](auto type) {
    if (p.kind == Glu::geglu)
      f(type, std::integral_constant<Glu, Glu::geglu>{});
    else
      f(type, std::integral_constant<Glu, Glu::swiglu>{});
  });
}

}  // namespace genfast::inline GENFAST_ISA
