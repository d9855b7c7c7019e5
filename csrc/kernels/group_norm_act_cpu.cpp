#include <type_traits>

#include "group_norm_act_body.h"
#include "group_norm_act_columns.h"
#include "rows.h"

namespace genfast::cpu::GENFAST_ISA {

// visit(c, start, q) for each channel where maps are planar: where its values begin, and its parameters in registers.
template <class Pass, class Visit>
static void rows_of(const Pass& pass, int64_t n, int64_t first, int64_t width, Visit visit) {
  const Maps& maps = pass.p.norm.maps;
  channels_of(pass, n, first, width, [&](int64_t c, const float* parameters) {
    Floats q[Pass::kParameters];
    for (int i = 0; i < Pass::kParameters; ++i) q[i] = all(parameters[i]);
    visit(c, (n * maps.channels + c) * maps.pixels, q);
  });
}

// What follows for a strip are functions of their own: inlined in every pass they would be compiled again and again.
template <class Summing, class Args>
[[gnu::noinline]] static void sum_strip(const Args& args, int64_t n, int64_t first, int64_t width,
                                        const Summing& pass) {
  const GroupNorm& p = args.norm;
  float* sums = p.sums + 2 * n * p.maps.channels;
  if (p.maps.last) return Strip<Summing>(pass, n, first, width).sum(sums);
  rows_of(pass, n, first, width, [&](int64_t c, int64_t start, const auto& q) {
    float total[2];
    const Inputs<Summing> inputs(pass, start);
    sum_row(p.maps.pixels, total, [&](const auto& lane) {
      Floats in[Summing::kInputs];
      Terms<Floats, 2> terms;
      inputs.each(in, [&](const auto* from) { return lane.load(from); });
      pass.sum(in, q, terms.of);
      if constexpr (requires { pass.keep(); }) lane.store(pass.keep() + start, terms.of[0]);
      return terms;
    });
    sums[c] = total[0], sums[p.maps.channels + c] = total[1];
  });
}

// So large an output is written past the cache: beside what is read it would not fit there, and so it need not be read
// before it is written.
constexpr int64_t kPastCache = int64_t(16) << 20;

// Whether a strip is: where all registers of its rows are aligned.
template <class Pass>
static bool streams(const GroupNorm& p, int64_t first, const Pass& pass) {
  constexpr int64_t size = sizeof(typename Pass::Type);
  const int64_t row = p.maps.last ? p.maps.channels : p.maps.pixels, begin = p.maps.last ? first : 0;
  const auto places = reinterpret_cast<uintptr_t>(pass.output()) | uintptr_t((row | begin) * size);
  return p.maps.batch * p.maps.channels * p.maps.pixels * size >= kPastCache && places % (kLanes * size) == 0;
}

// While it computes, it asks for what `summing` will read of the next strip, which lies behind this one where maps are
// planar.
template <bool streamed, class Summing, class Mapping>
[[gnu::noinline]] static void map_strip(const GroupNorm& p, int64_t n, int64_t first, int64_t width,
                                        const Summing& summing, const Mapping& pass) {
  if (p.maps.last) return Strip<Mapping>(pass, n, first, width).template map<streamed>();
  const int64_t next = width * p.maps.pixels;
  rows_of(pass, n, first, width, [&](int64_t, int64_t start, const auto& q) {
    const Inputs<Summing> ahead(summing, start + next);
    const Inputs<Mapping> inputs(pass, start);
    auto* out = pass.output() + start;
    lanes(0, p.maps.pixels, [&](const auto& lane) {
      for (const auto* from : ahead.from) __builtin_prefetch(from + lane.first);
      Floats in[Mapping::kInputs];
      inputs.each(in, [&](const auto* from) { return lane.load(from); });
      if constexpr (streamed)
        lane.stream(out, pass.map(in, q));
      else
        lane.store(out, pass.map(in, q));
    });
  });
}

// Writes what is given plus what is added to `sum`, where the passes read it.
template <class T>
[[gnu::noinline]] static void add_strip(const GroupNorm& p, int64_t n, int64_t first, int64_t width) {
  const int64_t across = p.maps.last ? width : p.maps.pixels, rows = p.maps.last ? p.maps.pixels : width;
  const auto with_add = [&](const auto* add) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t start = p.maps.last ? (n * p.maps.pixels + row) * p.maps.channels + first
                                        : (n * p.maps.channels + first + row) * p.maps.pixels;
      const T* x = static_cast<const T*>(p.x) + start;
      const T* like = static_cast<const T*>(p.like) + start;
      T* to = static_cast<T*>(p.sum) + start;
      lanes(0, across, [&](const auto& lane) {
        const Floats more = p.like ? lane.load(like) : p.maps.last ? lane.load(add) : all(widen(add[row]));
        lane.store(to, lane.load(x) + more);
      });
    }
  };
  with_row<T>(p.add, n, [&](const auto* add) { with_add(add ? add + first : add); });
}

// Each strip while it is in the cache: sum, finish its groups, map.
template <class Summing, class Mapping, class Args>
static void run(const Args& args, int64_t work_first, int64_t work_last, const Summing& summing,
                const Mapping& mapping) {
  constexpr bool forward = std::is_same_v<Args, GroupNormActArgs>;
  const GroupNorm& p = args.norm;
  const int64_t per_group = channels_per_group(p), per_strip = groups_per_strip(p), count = strips(p);
  for (int64_t work = work_first; work < work_last; ++work) {
    const int64_t n = work / count, begin = work % count * per_strip;
    const int64_t end = begin + per_strip < p.groups ? begin + per_strip : p.groups, width = (end - begin) * per_group;
    if constexpr (forward) {
      if (p.like || p.add.data) add_strip<typename Summing::Type>(p, n, begin * per_group, width);
      for (int64_t group = begin; group < end; ++group) set_pivot<typename Summing::Type>(summing.p.norm, n, group);
    }
    sum_strip(args, n, begin * per_group, width, summing);
    for (int64_t group = begin; group < end; ++group) finish_group(args, n, group);
    if (forward && streams(p, begin * per_group, mapping))
      map_strip<forward>(p, n, begin * per_group, width, summing, mapping);
    else
      map_strip<false>(p, n, begin * per_group, width, summing, mapping);
    if constexpr (!forward)
      if (args.more) {
        GroupNorm both = p;
        both.x = both.sum = args.dx, both.like = args.more;
        add_strip<typename Summing::Type>(both, n, begin * per_group, width);
      }
  }
  end_streams();
}

void group_norm_act(const GroupNormActArgs& given, int64_t first, int64_t last) {
  GroupNormActArgs p = given;
  if (p.norm.like || p.norm.add.data) p.norm.x = p.norm.sum;
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    with_activation<T>(Activation(p.norm.activation), [&](auto act) {
      run(given, first, last, MomentsPass<T>{p}, ApplyPass<T, decltype(act)>{p, act});
    });
  });
}

void group_norm_act_backward(const GroupNormActBackwardArgs& p, int64_t first, int64_t last) {
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr bool kept = std::is_same_v<T, float>;
    with_activation<T>(Activation(p.norm.activation), [&](auto act) {
      run(p, first, last, SlopesPass<T, decltype(act), kept>{p, act}, GradientPass<T, decltype(act), kept>{p, act});
    });
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
