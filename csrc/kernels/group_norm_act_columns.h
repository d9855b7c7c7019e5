#pragma once
// The passes of group norm over channels-last maps, CPU: registers hold neighboring channels and walk over the pixels.
#include <memory>

#include "group_norm_act_body.h"
#include "map.h"

namespace genfast::inline GENFAST_ISA {

// `lanes` registers of neighboring channels, or, lanes = 0, fewer channels than one register holds.
template <int lanes>
struct Columns {
  static constexpr int kCount = lanes ? lanes : 1;
  int count;  // channels
  template <class T>
  GENFAST_HD Floats load(const T* p, int j) const {
    if constexpr (lanes) return load_lane(p + j * kLanes);
    return load_part(p, count);
  }
  template <class T>
  GENFAST_HD void store(T* p, int j, Floats value) const {
    if constexpr (lanes) return store_lane(p + j * kLanes, value);
    store_part(p, value, count);
  }
  template <class T>
  GENFAST_HD void stream(T* p, int j, Floats value) const {
    if constexpr (lanes) return stream_lane(p + j * kLanes, value);
    store_part(p, value, count);
  }
};

// Visits [0, width) in blocks of four registers, then single ones, then what is left.
template <class Visit>
void blocks_of(int64_t width, Visit visit) {
  int64_t at = 0;
  for (; at + 4 * kLanes <= width; at += 4 * kLanes) visit(Columns<4>{4 * kLanes}, at);
  for (; at + kLanes <= width; at += kLanes) visit(Columns<1>{kLanes}, at);
  if (at < width) visit(Columns<0>{int(width - at)}, at);
}

// visit(c, parameters) for each channel of [first, first + width) of sample n.
template <class Pass, class Visit>
void channels_of(const Pass& pass, int64_t n, int64_t first, int64_t width, Visit visit) {
  const int64_t per_group = pass.p.norm.per_group;
  int64_t group = first / per_group, left = per_group;
  for (int64_t c = first; c < first + width; ++c) {
    float parameters[Pass::kParameters];
    pass.parameters(n, group, c, parameters);
    visit(c, parameters);
    if (--left == 0) ++group, left = per_group;
  }
}

// Where a pass reads, from `start` on.  Pointers of their own: read through the pass, they would be read again after
// every store.
template <class Pass>
struct Inputs {
  const typename Pass::Type* from[Pass::kInputs];
  Inputs(const Pass& pass, int64_t start) {
    for (int i = 0; i < Pass::kInputs; ++i) from[i] = pass.input(i) + start;
  }
  // load(from) is what is read of an input.
  template <class Load>
  GENFAST_HD void each(Floats (&in)[Pass::kInputs], const Load& load) const {
    for (int i = 0; i < Pass::kInputs; ++i) in[i] = load(from[i]);
  }
};

// The parameters of channels [first, first + width) of sample n, [kParameters, width].
template <class Pass>
class Strip {
 public:
  Strip(const Pass& pass, int64_t n, int64_t first, int64_t width)
      : pass_(pass),
        maps_(pass.p.norm.maps),
        n_(n),
        first_(first),
        width_(width),
        table_(new float[Pass::kParameters * width]) {
    channels_of(pass, n, first, width, [&](int64_t c, const float* parameters) {
      for (int i = 0; i < Pass::kParameters; ++i) table_[i * width + c - first] = parameters[i];
    });
  }

  void sum(float* sums) const {  // [2, channels] of the sample
    float* to[2] = {sums + first_, sums + maps_.channels + first_};
    const int64_t stride = maps_.channels;
    for (int64_t pixel = 0; pixel < maps_.pixels; pixel += kPixels) {
      const int64_t end = end_of_unit(pixel);
      blocks_of(width_, [&](const auto& columns, int64_t at) {
        using Block = std::decay_t<decltype(columns)>;
        const Loaded<Block> q(*this, columns, at);
        const Inputs<Pass> inputs(pass_, place(at));
        Floats unit[2][Block::kCount];
        for (int j = 0; j < Block::kCount; ++j) unit[0][j] = unit[1][j] = all(0.0f);
        // What is a unit further is asked for meanwhile: not all at once, for computing would wait for it.
        for (int64_t each = pixel; each < end; ++each) {
          GENFAST_UNROLL
          for (int j = 0; j < Block::kCount; ++j) {
            Floats in[Pass::kInputs], terms[2];
            inputs.each(in, [&](const auto* from) {
              __builtin_prefetch(from + (each + kPixels) * stride + j * kLanes);
              return columns.load(from + each * stride, j);
            });
            pass_.sum(in, q.of[j], terms);
            if constexpr (requires { pass_.keep(); })
              columns.store(pass_.keep() + place(at) + each * stride, j, terms[0]);
            unit[0][j] = unit[0][j] + terms[0], unit[1][j] = unit[1][j] + terms[1];
          }
        }
        for (int i = 0; i < 2; ++i)
          for (int j = 0; j < Block::kCount; ++j) {
            const Floats so_far = pixel == 0 ? all(0.0f) : columns.load(to[i] + at, j);
            columns.store(to[i] + at, j, so_far + unit[i][j]);
          }
      });
    }
  }

  template <bool streams>  // past the cache
  void map() const {
    const int64_t stride = maps_.channels;
    for (int64_t pixel = 0; pixel < maps_.pixels; pixel += kPixels) {
      const int64_t end = end_of_unit(pixel);
      blocks_of(width_, [&](const auto& columns, int64_t at) {
        using Block = std::decay_t<decltype(columns)>;
        const Loaded<Block> q(*this, columns, at);
        const Inputs<Pass> inputs(pass_, place(at));
        auto* out = pass_.output() + place(at);
        for (int64_t each = pixel; each < end; ++each) {
          GENFAST_UNROLL
          for (int j = 0; j < Block::kCount; ++j) {
            Floats in[Pass::kInputs];
            inputs.each(in, [&](const auto* from) { return columns.load(from + each * stride, j); });
            const Floats value = pass_.map(in, q.of[j]);
            if constexpr (streams)
              columns.stream(out + each * stride, j, value);
            else
              columns.store(out + each * stride, j, value);
          }
        }
      });
    }
  }

 private:
  template <class Block>
  struct Loaded {
    Floats of[Block::kCount][Pass::kParameters];
    Loaded(const Strip& strip, const Block& columns, int64_t at) {
      for (int j = 0; j < Block::kCount; ++j)
        for (int i = 0; i < Pass::kParameters; ++i)
          of[j][i] = columns.load(strip.table_.get() + i * strip.width_ + at, j);
    }
  };
  int64_t end_of_unit(int64_t pixel) const { return pixel + kPixels < maps_.pixels ? pixel + kPixels : maps_.pixels; }
  int64_t place(int64_t at) const { return n_ * maps_.pixels * maps_.channels + first_ + at; }

  const Pass& pass_;
  const Maps& maps_;
  int64_t n_, first_, width_;
  std::unique_ptr<float[]> table_;
};

}  // namespace genfast::inline GENFAST_ISA
