#include <type_traits>

#include "group_norm_act_body.h"
#include "group_norm_act_columns.h"
#include "reduce.h"
#include "rows.h"

namespace genfast::cpu::GENFAST_ISA {

template <class Summing, class Args>
static void sum_strip(const Args& args, int64_t n, int64_t first, int64_t width, const Summing& pass) {
  const GroupNorm& p = args.norm;
  const int64_t row = n * p.maps.channels + first;
  if (p.maps.last)
    Strip<Summing>(pass, n, first, width).sum(p.sums + 2 * n * p.maps.channels);
  else
    reduce(rows_of(p.maps), row, row + width, Planar<Summing>{pass});
}

// While it computes, it asks for what `summing` will read of the next strip, which lies behind this one where maps are
// planar.
template <class Summing, class Mapping, class Args>
static void map_strip(const Args& args, int64_t n, int64_t first, int64_t width, const Summing& summing,
                      const Mapping& mapping) {
  const GroupNorm& p = args.norm;
  if (p.maps.last) return Strip<Mapping>(mapping, n, first, width).map();
  const Planar<Mapping> body{mapping};
  const Shape shape = rows_of(p.maps);
  for (int64_t row = n * p.maps.channels + first, end = row + width; row < end; ++row) {
    const auto apply = body.row(row);
    const typename Planar<Summing>::Row ask{summing, {}};
    for (int64_t unit = 0; unit < units_per_row(shape); ++unit) {
      for (int64_t at = unit * kUnit; at < (unit + 1) * kUnit; at += CpuTile::kSize)
        ask(AheadTile{{shape, row + width, at, CpuTile::kSize}});
      tiles_of_unit(shape, row, unit, apply);
    }
  }
}

// Writes what is given plus what is added to `sum`, where the passes read it.
template <class T>
static void add_strip(const GroupNorm& p, int64_t n, int64_t first, int64_t width) {
  const int64_t across = p.maps.last ? width : p.maps.pixels, rows = p.maps.last ? p.maps.pixels : width;
  const float* add = p.add ? p.add + n * p.add_stride + first : nullptr;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t start = p.maps.last ? (n * p.maps.pixels + row) * p.maps.channels + first
                                      : (n * p.maps.channels + first + row) * p.maps.pixels;
    const T* x = static_cast<const T*>(p.x) + start;
    const T* like = static_cast<const T*>(p.like) + start;
    T* to = static_cast<T*>(p.sum) + start;
    lanes(0, across, [&](const auto& lane) {
      const Floats more = p.like ? lane.load(like) : p.maps.last ? lane.load(add) : all(add[row]);
      lane.store(to, lane.load(x) + more);
    });
  }
}

// Each strip while it is in the cache: sum, finish its groups, map.
template <class Summing, class Mapping, class Args>
static void run(const Args& args, int64_t work_first, int64_t work_last, const Summing& summing,
                const Mapping& mapping) {
  const GroupNorm& p = args.norm;
  const int64_t per_group = channels_per_group(p), per_strip = groups_per_strip(p), count = strips(p);
  for (int64_t work = work_first; work < work_last; ++work) {
    const int64_t n = work / count, begin = work % count * per_strip;
    const int64_t end = begin + per_strip < p.groups ? begin + per_strip : p.groups, width = (end - begin) * per_group;
    if constexpr (std::is_same_v<Args, GroupNormActArgs>) {
      if (p.like || p.add) add_strip<typename Summing::Type>(p, n, begin * per_group, width);
      for (int64_t group = begin; group < end; ++group) set_pivot<typename Summing::Type>(summing.p.norm, n, group);
    }
    sum_strip(args, n, begin * per_group, width, summing);
    for (int64_t group = begin; group < end; ++group) finish_group(args, n, group);
    map_strip(args, n, begin * per_group, width, summing, mapping);
    if constexpr (std::is_same_v<Args, GroupNormActBackwardArgs>)
      if (args.more) {
        GroupNorm both = p;
        both.x = both.sum = args.dx, both.like = args.more;
        add_strip<typename Summing::Type>(both, n, begin * per_group, width);
      }
  }
}

void group_norm_act(const GroupNormActArgs& given, int64_t first, int64_t last) {
  GroupNormActArgs p = given;
  if (p.norm.like || p.norm.add) p.norm.x = p.norm.sum;
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    with_activation(Activation(p.norm.activation),
                    [&](auto act) { run(given, first, last, MomentsPass<T>{p}, ApplyPass<T, decltype(act)>{p, act}); });
  });
}

void group_norm_act_backward(const GroupNormActBackwardArgs& p, int64_t first, int64_t last) {
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr bool kept = std::is_same_v<T, float>;
    with_activation(Activation(p.norm.activation), [&](auto act) {
      run(p, first, last, SlopesPass<T, decltype(act), kept>{p, act}, GradientPass<T, decltype(act), kept>{p, act});
    });
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
