#pragma once
#include "../math/activation.h"
#include "../math/memory.h"
#include "bias_act.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

// The bias of a tile's columns, or what leaves every x + bias as it is.  `bias`: where a row would begin whose columns
// it is, as a tile adds row * features itself.
template <class Tile, class T>
GENFAST_HD auto bias_of(const Tile& tile, const T* bias) {
  if (bias) return tile.load(bias - tile.row * tile.shape.features);
  typename Tile::Values none;
  for (int k = 0; k < none.kParts; ++k) none.v[k] = all(-0.0f);
  return none;
}

// x + bias, or x: a GPU does nothing for a bias that is not there.
template <class Tile, class X, class T>
GENFAST_HD auto biased(const Tile& tile, const X* x, const T* bias) {
  auto u = tile.load(x);
  if (bias) {
    const auto b = bias_of(tile, bias);
    for (int k = 0; k < u.kParts; ++k) u.v[k] = u.v[k] + b.v[k];
  }
  return u;
}

template <class T, class Act>
struct BiasActBody {
  BiasActArgs p;
  struct Row {
    T* y;
    const T* x;
    Small bias;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto u = with_row<T>(bias, 0, [&](const auto* row) { return biased(tile, x, row); });
      for (int k = 0; k < u.kParts; ++k) u.v[k] = Act::value(u.v[k]);
      tile.store(y, u);
    }
  };
  GENFAST_HD Row row(int64_t) const { return {static_cast<T*>(p.y), static_cast<const T*>(p.x), p.bias}; }
};

template <class T>
struct BiasActGradient {
  T* grad_x;
  const T *x, *grad_y;
  template <class Act, class Tile>
  GENFAST_HD auto store(const Tile& tile, const typename Tile::Values& bias) const {
    auto g = tile.load(grad_y);
    const auto u = tile.load(x);
    for (int k = 0; k < u.kParts; ++k) g.v[k] = g.v[k] * Act::slope(u.v[k] + bias.v[k]);
    tile.store(grad_x, g);
    return g;
  }
  GENFAST_HD BiasActGradient from(int64_t element) const { return {grad_x + element, x + element, grad_y + element}; }
};
template <class T>
GENFAST_HD BiasActGradient<T> gradient_of(const BiasActBackwardArgs& p) {
  return {static_cast<T*>(p.grad_x), static_cast<const T*>(p.x), static_cast<const T*>(p.grad_y)};
}

template <class T, class Act>
struct BiasActBackwardBody {
  BiasActBackwardArgs p;
  struct Row {
    BiasActGradient<T> gradient;
    const float* bias;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      gradient.template store<Act>(tile, bias_of(tile, bias));
    }
  };
  GENFAST_HD Row row(int64_t) const { return {gradient_of<T>(p), p.bias}; }
};

// What memory of type T makes of a.
template <class T>
GENFAST_HD Floats as_stored(Floats a) {
  T buffer[kLanes];
  store_lane(buffer, a);
  return load_lane(buffer);
}

// The same, and the sums over rows: a row of p.of_parts() is a unit.
template <class T, class Act>
struct BiasActSumsBody {
  BiasActBackwardArgs p;
  struct Unit {
    BiasActGradient<T> first;
    const float* bias;
    float* parts;
    int rows;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      const auto b = bias_of(tile, bias);
      typename Tile::Values sum{};
      GENFAST_NO_UNROLL
      for (int row = 0; row < rows; ++row) {
        const auto g = first.from(row * tile.shape.features).template store<Act>(tile, b);
        for (int k = 0; k < sum.kParts; ++k) sum.v[k] = sum.v[k] + as_stored<T>(g.v[k]);
      }
      tile.store(parts, sum);
    }
  };
  // A tile adds unit * features to every pointer.
  GENFAST_HD Unit row(int64_t unit) const {
    const int64_t begin = unit * kUnit, left = p.shape.batch - begin;
    return {gradient_of<T>(p).from((begin - unit) * p.shape.features), p.bias, p.parts,
            int(left < kUnit ? left : kUnit)};
  }
};

// with_type_and_act(p, f) calls f(T{}, Act{}) with the type and the activation that p names.
template <class Args, class Function>
inline void with_type_and_act(const Args& p, Function f) {
  with_type(p.dtype,
            [&](auto type) { with_activation<decltype(type)>(Activation(p.act), [&](auto act) { f(type, act); }); });
}

}  // namespace genfast::inline GENFAST_ISA
