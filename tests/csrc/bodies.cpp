// The concepts of kernels/body.h: BODY names a body below, DRIVER what it is handed to.  All but Good are refused.
#include "../../csrc/kernels/reduce.h"

using namespace genfast;

struct Good {
  static constexpr int kSums = 1;
  float* to;
  struct Row {
    float* to;
    template <class Tile>
    GENFAST_HD void operator()(const Tile& tile) const {
      tile.store(to, tile.load(to));
    }
  };
  Row row(int64_t) const { return {to}; }
};

struct GoodSum {
  static constexpr int kSums = 2;
  const float* from;
  struct Row {
    const float* from;
    template <class Tile>
    GENFAST_HD Terms<typename Tile::Values, 2> operator()(const Tile& tile) const {
      return {{tile.load(from), tile.load(from)}};
    }
  };
  Row row(int64_t) const { return {from}; }
  void finish(int64_t, const float*) const {}
};

struct NoRow {
  float* to;
};

struct NotOfTiles : NoRow {
  struct Row {
    void operator()(int64_t) const {}
  };
  Row row(int64_t) const { return {}; }
};

struct GivesTerms : GoodSum {};  // to map

struct NoSums : Good {};  // to reduce

struct NoFinish {
  static constexpr int kSums = 2;
  GoodSum::Row row(int64_t) const { return {nullptr}; }
};

struct NoCopy : Good {
  NoCopy(const NoCopy&) = delete;
  NoCopy& operator=(const NoCopy&) = delete;
};

void call(const Shape& shape, const BODY& body) { DRIVER(shape, 0, 1, body); }
