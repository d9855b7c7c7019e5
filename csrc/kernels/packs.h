#pragma once
// How much of a row one thread of a GPU takes at a time.

namespace genfast {

// `number` times `width` neighboring elements (tile.cuh), and registers for `blocks` blocks of threads on a
// multiprocessor.  More packs are more loads in flight, and more registers.  A body may name its own as `Packs`.
template <int number, int width, int blocks = 1>
struct PacksOf {
  static constexpr int kNumber = number, kWidth = width, kSize = number * width, kBlocks = blocks;
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
