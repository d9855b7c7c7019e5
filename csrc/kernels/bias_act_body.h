#pragma once
#include "../math/activation.h"
#include "bias_act.h"
#include "with_type.h"

namespace genfast::inline GENFAST_ISA {

// x + bias of a tile.  `bias`: where a row would begin whose columns it is, as a tile adds row * features itself.
template <class Tile, class T>
GENFAST_HD auto biased(const Tile& tile, const T* x, const float* bias) {
  auto u = tile.load(x);
  if (bias) {
    const auto b = tile.load(bias - tile.row * tile.shape.features);
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
    const float* bias;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto u = biased(tile, x, bias);
      for (int k = 0; k < u.kParts; ++k) u.v[k] = Act::value(u.v[k]);
      tile.store(y, u);
    }
  };
  GENFAST_HD Row row(int64_t) const { return {static_cast<T*>(p.y), static_cast<const T*>(p.x), p.bias}; }
};

template <class T, class Act>
struct BiasActBackwardBody {
  BiasActBackwardArgs p;
  struct Row {
    T* grad_x;
    const T *x, *grad_y;
    const float* bias;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      auto g = tile.load(grad_y);
      const auto u = biased(tile, x, bias);
      for (int k = 0; k < u.kParts; ++k) g.v[k] = g.v[k] * Act::slope(u.v[k]);
      tile.store(grad_x, g);
    }
  };
  GENFAST_HD Row row(int64_t) const {
    return {static_cast<T*>(p.grad_x), static_cast<const T*>(p.x), static_cast<const T*>(p.grad_y), p.bias};
  }
};

// Of some features, whose part of a row `load` gives.
template <class T, class Load>
GENFAST_HD Floats bias_sum(const BiasSumsArgs& p, int64_t unit, const Load& load) {
  const int64_t begin = unit * kUnit, end = begin + kUnit < p.shape.batch ? begin + kUnit : p.shape.batch;
  Floats sum = all(0.0f);
  for (int64_t row = begin; row < end; ++row)
    sum = sum + load(static_cast<const T*>(p.grad_x) + row * p.shape.features);
  return sum;
}

// with_type_and_act(p, f) calls f(T{}, Act{}) with the type and the activation that p names.
template <class Args, class Function>
inline void with_type_and_act(const Args& p, Function f) {
  with_type(p.dtype, [&](auto type) { with_activation(Activation(p.act), [&](auto act) { f(type, act); }); });
}

}  // namespace genfast::inline GENFAST_ISA
