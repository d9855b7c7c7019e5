#pragma once
// Group norm where the values of a channel are neighbors, or, channels-last, where channels fill no packs: a block
// holds a group, or a part of one.
#include "group_norm_act_meet.cuh"
#include "group_norm_act_sums.cuh"

namespace genfast::inline GENFAST_ISA {

// The part of a block: packs [first, first + count) of a group, whose channels begin at `channel`.
struct GroupPart {
  int64_t n, group, channel, slice;
  int part, channels, count;

  GENFAST_HD GroupPart(const GroupNorm& p, const GroupSplit& split, const Here& here)
      : n(here.n), group(here.unit), part(here.part) {
    const int block = split.slices > 1 ? part / split.slices : part;
    slice = split.slices > 1 ? int64_t(part - block * split.slices) * split.per_slice : 0;
    const int64_t first = int64_t(block) * split.channels, channels_left = p.per_group - first;
    const int64_t packs_left = split.per_channel - slice;
    channel = group * p.per_group + first;
    channels = channels_left < split.channels ? int(channels_left) : split.channels;
    count = channels * (packs_left < split.per_slice ? int(packs_left) : split.per_slice);
  }
};

// The packs of a thread: a warp has neighboring ones.  Pack k is pack i(k) of the part; where it lies in memory, and of
// which channel it is.
template <class T, bool vector, int packs>
struct GroupPlaces {
  static constexpr int kWide = Packs<T, vector>::kWide;
  int first, count;
  int64_t base, channels;
  int per_slice;
  unsigned inverse;
  bool last;
  GENFAST_HD GroupPlaces(const GroupNorm& p, const GroupSplit& split, const GroupPart& part)
      : first(int(threadIdx.x / 32 * (32 * packs * split.loads) + threadIdx.x % 32)),
        count(part.count),
        base((part.n * p.maps.channels + part.channel) * split.per_channel + part.slice + first),
        channels(p.maps.channels),
        per_slice(split.per_slice),
        inverse(split.inverse),
        last(!vector && p.maps.last) {
    if (last) base = (part.n * p.maps.pixels + part.slice) * channels + part.channel;
  }
  // To the packs of a later load, or an earlier one.
  GENFAST_HD void move(int loads) { first += 32 * packs * loads, base += 32 * packs * loads; }
  GENFAST_HD bool has(int k) const { return first + 32 * k < count; }
  GENFAST_HD int channel(int k) const {  // of a pack beyond the last one that of the last
    const int i = first + 32 * k;
    return divided(i < count ? i : count - 1, inverse);
  }
  GENFAST_HD int64_t operator()(int k) const {
    if constexpr (!vector) {
      const int c = channel(k);
      if (last) return base + (first + 32 * k - c * per_slice) * channels + c;
    }
    return base + 32 * k;
  }
};

template <class T, bool vector, class Passes>
__global__ void __launch_bounds__(1024, 1)
    group_kernel(const __grid_constant__ GroupNormActArgs args, const __grid_constant__ GroupSplit split,
                 const __grid_constant__ Passes passes) {
  using Pack = Packs<T, vector>;
  constexpr int packs = kGroupBlocks[0].held, wide = Pack::kWide;
  GENFAST_DYNAMIC_SHARED(Pair, line);  // of the channels: slope, offset
  GENFAST_SHARED(float[32], room);
  GENFAST_SHARED(float[32], more_room);
  GENFAST_SHARED(Moments, told);
  const GroupNorm& p = args.norm;
  const Here here = here_in(passes);
  if (here.stage == Stage::none) return;
  const GroupPart part(p, split, here);
  GroupPlaces<T, vector, packs> place(p, split, part);
  const int threads = int(blockDim.x), thread = int(threadIdx.x);

  typename Pack::Word held[packs];
  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) held[k] = place.has(k) ? Pack::load(p.x, place(k)) : Pack::zero();
  if (p.like || p.add.data) {
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      if (!place.has(k)) continue;
      float add[wide];
      if (p.like) {
        typename Pack::Word like = Pack::load(p.like, place(k));
        Pack::unpack(like, add);
      } else {
        const float of_channel = at<T>(p.add, part.n, part.channel + place.channel(k));
        for (float& a : add) a = of_channel;
      }
      held[k] = plus<Pack>(held[k], add);
      if (p.sum && here.stage != Stage::rest) Pack::store(p.sum, place(k), held[k]);
    }
  }
  for (int c = thread; c < part.channels; c += threads)
    line[c] = {slope_of<T>(p, part.n, part.channel + c), offset_of<T>(p, part.n, part.channel + c)};

  Pair moments{};  // of the group: mean, rstd
  if (here.stage != Stage::rest) {
    const float count = float(part.count * wide);
    const float sum = sum_of_group<T, vector>(held);
    float squares = 0.0f;
    const float mean = block_sum(sum, room) / count;
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      float v[wide];
      Pack::unpack(held[k], v);
      if (place.has(k)) {
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) v[j] = v[j] - mean, squares = fma_(v[j], v[j], squares);
      }
    }
    const Moments own{mean, block_sum(squares, more_room), count};
    if constexpr (Passes::kTwice) {
      const Here again = here_in(passes);
      Moments* to = reinterpret_cast<Moments*>(p.partial) + (again.n * p.groups + again.unit) * split.parts;
      if (thread == 0) to[again.part] = own;
      return tell(passes, [&](const Here& at) { put_together(args, split, at); });
    } else if (split.parts == 1) {
      moments = {mean, 1.0f / sqrtf(own.squares / count + args.eps)};
    } else {
      if (thread == 0) told = own;
      cluster_sync();
      moments = put_together(split.parts, float(p.per_group * p.maps.pixels), args.eps,
                             [&](int q) { return *shared_of(&told, q); });
      cluster_arrive();
    }
    if (p.mean && thread == 0 && part.part == 0) {
      const int64_t at = part.n * p.groups + part.group;
      p.mean[at] = moments.first, p.rstd[at] = moments.second;
    }
  } else if constexpr (Passes::kTwice) {
    const Here again = here_in(passes);
    const int64_t at = again.n * p.groups + again.unit;
    listen(passes);
    moments = {p.mean[at], p.rstd[at]};
  }

  find_again(place.base);
  with_activation_of<T>(p, [&](auto act) {
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      const Pair of_channel = line[place.channel(k)];
      const float slope = of_channel.first * moments.second;
      float v[wide];
      Pack::unpack(held[k], v);
      GENFAST_UNROLL
      for (int j = 0; j < wide; ++j) v[j] = act.value(fma_(v[j] - moments.first, slope, of_channel.second));
      if (place.has(k)) Pack::store(args.y, place(k), Pack::pack(v));
    }
  });
  if (!Passes::kTwice && split.parts > 1) cluster_wait();  // the others may still read from this block
}

}  // namespace genfast::inline GENFAST_ISA
