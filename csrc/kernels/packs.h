#pragma once
// How much of a row one thread of a GPU takes.

namespace genfast {

// `number` times `width` neighboring elements (tile.cuh): a body may name its own as `Packs`.  More of them are more
// loads in flight, and more registers.
template <int number, int width>
struct PacksOf {
  static constexpr int kNumber = number, kWidth = width;
};
template <class Body>
struct PacksFor {
  using Type = PacksOf<1, 8>;
};
template <class Body>
  requires requires { typename Body::Packs; }
struct PacksFor<Body> {
  using Type = typename Body::Packs;
};

}  // namespace genfast
