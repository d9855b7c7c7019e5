#pragma once
// What an op hands to a driver: a body.  One body is compiled for every lane of a CPU and for a GPU.
//
// A body is a small value that holds the Args.  `row(r)` is called once a row and gives what all of the row shares:
// pointers with their types, coefficients, the row's noise.  That is applied to each tile of the row, some consecutive
// elements that one thread holds:
//
//   map      apply(tile) loads, computes on the values and stores.  Tiles come in any order and on any thread, so it
//            may touch nothing else of the row.
//   reduce   apply(tile) gives the Terms to add, Body::kSums of them, zero beyond the end of the row (clear_tail).  It
//            is called once a tile; the driver adds in the one order of math/sum.h and calls finish(r, sums).
//
// A tile loads and stores by the base of the tensor, of any type of memory: it adds its row and its place itself, so
// bases are those of row 0 (a table of one row's length goes in minus row * features).  Values are kParts lanes `v[k]`:
// a formula goes over them, never over elements.  normal(noise) and uniform(noise) are the tile's own elements of the
// noise.  What lies beyond the end of a row loads as zero, or, where a tile is several packs, as its first pack again,
// and is not stored; clear_tail makes it zero.
//
// Drivers choose the size of a tile and how memory is walked; a body must not ask.  So a body never reads an element
// that another tile holds, nor what it has stored itself.
#include <concepts>
#include <cstdint>

#include "types.h"

namespace genfast::inline GENFAST_ISA {

template <class T>
concept Tile = requires(const T& tile, const float* from, float* to, typename T::Values& values) {
  { tile.load(from) } -> std::same_as<typename T::Values>;
  tile.store(to, values);
  tile.clear_tail(values);
  { tile.shape } -> std::convertible_to<const Shape&>;
  { tile.row } -> std::convertible_to<int64_t>;
  { tile.first } -> std::convertible_to<int64_t>;
  { T::Values::kParts } -> std::convertible_to<int>;
  values.v[0];
};

// Applied to a tile of type T, a row of the body gives nothing.
template <class B, class T>
concept MapBody = Tile<T> && std::copyable<B> && requires(const B& body, const T& tile) {
  { body.row(int64_t{}) };
  { body.row(int64_t{})(tile) } -> std::same_as<void>;
};

// Applied to a tile, a row of the body gives the terms of B::kSums sums.
template <class B, class T>
concept ReduceBody = Tile<T> && std::copyable<B> && requires(const B& body, const T& tile, const float* sums) {
  { B::kSums } -> std::convertible_to<int>;
  { body.row(int64_t{})(tile).of[B::kSums - 1] } -> std::convertible_to<typename T::Values>;
  body.finish(int64_t{}, sums);
};

}  // namespace genfast::inline GENFAST_ISA
