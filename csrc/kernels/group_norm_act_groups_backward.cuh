#pragma once
// The backward of group norm where a block holds a group, or a part of one.
#include "group_norm_act_groups.cuh"

namespace genfast::inline GENFAST_ISA {

// Shared memory: the lines of the channels, and what the packs add to their sums.
inline size_t group_backward_bytes(const GroupSplit& split) {
  return sizeof(Pair) * (split.channels + split.threads * kGroupBlocksBackward[0].packs);
}

// du = dL/du; a du waits where dy was, rounded as torch rounds a gradient of that type.
template <class T, bool vector>
__global__ void __launch_bounds__(512, 1)
    group_backward_kernel(const __grid_constant__ GroupNormActBackwardArgs args,
                          const __grid_constant__ GroupSplit split, const __grid_constant__ int64_t first_sample,
                          const __grid_constant__ Stage stage) {
  using Pack = Packs<T, vector>;
  constexpr int packs = kGroupBlocksBackward[0].packs, wide = Pack::kWide;
  GENFAST_DYNAMIC_SHARED(Pair, line);  // of the channels: slope rstd, offset
  Pair* const of_packs = line + split.channels;
  GENFAST_SHARED(Pair[16], of_warps);
  GENFAST_SHARED(Pair[2], told);  // of the group; of the one channel of a slice
  const GroupNorm& p = args.norm;
  const GroupPart part = GroupPart::here(p, split, first_sample);
  const GroupPlaces<T, vector, packs> place(p, split, part);
  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32, warps = int(blockDim.x / 32);

  typename Pack::Word x[packs], dy[packs];
  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) {
    x[k] = place.has(k) ? Pack::load(p.x, place(k)) : Pack::zero();
    dy[k] = place.has(k) ? Pack::load(args.dy, place(k)) : Pack::zero();
  }
  const int64_t at = part.n * p.groups + part.group;
  const float mean = p.mean[at], rstd = p.rstd[at];
  for (int c = thread; c < part.channels; c += int(blockDim.x))
    line[c] = {rstd * slope_of(p, part.n, part.channel + c), offset_of(p, part.n, part.channel + c)};
  __syncthreads();

  with_activation_of(p, [&](auto act) {
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      if (!place.has(k)) continue;
      const Pair of_channel = line[place.channel(k)];
      float v[wide], du[wide];
      Pack::unpack(x[k], v), Pack::unpack(dy[k], du);
      GENFAST_UNROLL
      for (int j = 0; j < wide; ++j) {
        v[j] = v[j] - mean;
        du[j] = du[j] * act.slope(fma_(v[j], of_channel.first, of_channel.second));
        v[j] = du[j] * v[j];
      }
      of_packs[place.first + 32 * k] = {sum_of(du), sum_of(v)};
      GENFAST_UNROLL
      for (int j = 0; j < wide; ++j) du[j] = of_channel.first * du[j];
      dy[k] = Pack::pack(du);
    }
  });

  GroupMeans means;
  if (stage != Stage::rest) {
    __syncthreads();
    Pair group{0.0f, 0.0f};
    for (int c = warp; c < part.channels; c += warps) {  // a warp a channel
      const int begin = c * split.per_slice, end = begin + split.per_slice;
      float sum = 0.0f, times = 0.0f;
      for (int i = begin + lane; i < end && i < part.count; i += 32)
        sum = sum + of_packs[i].first, times = times + of_packs[i].second;
      sum = warp_sum(sum), times = rstd * warp_sum(times);
      group.first = fma_(line[c].first, sum, group.first), group.second = fma_(line[c].first, times, group.second);
      if (lane == 0) {
        const int64_t channel = part.n * p.maps.channels + part.channel + c;
        if (stage == Stage::sums)
          reinterpret_cast<Pair*>(p.partial)[channel * split.slices + part.part % split.slices] = {sum, times};
        else if (split.slices > 1)
          told[1] = {sum, times};
        else
          p.sums[channel + part.n * p.maps.channels] = sum, p.sums[channel + (part.n + 1) * p.maps.channels] = times;
      }
    }
    if (stage == Stage::sums) return;
    if (lane == 0) of_warps[warp] = group;
    __syncthreads();
    group = lane < warps ? of_warps[lane] : Pair{0.0f, 0.0f};
    group = {warp_sum(group.first), warp_sum(group.second)};
    if (split.parts > 1) {
      if (thread == 0) told[0] = group;
      cluster_sync();
      group = lane < split.parts ? *shared_of(&told[0], lane) : Pair{0.0f, 0.0f};
      group = {warp_sum(group.first), warp_sum(group.second)};
      if (split.slices > 1 && part.slice == 0 && warp == 0) {
        Pair channel = lane < split.slices ? *shared_of(&told[1], part.part + lane) : Pair{0.0f, 0.0f};
        channel = {warp_sum(channel.first), warp_sum(channel.second)};
        float* to = p.sums + 2 * part.n * p.maps.channels + part.channel;
        if (lane == 0) to[0] = channel.first, to[p.maps.channels] = channel.second;
      }
      cluster_arrive();
    }
    const float count = float(p.per_group * p.maps.pixels);
    means = {group.first / count, rstd * group.second / count};
  } else {
    means = args.means[at];
  }

  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) {
    if (!place.has(k)) continue;
    float v[wide], du[wide];
    Pack::unpack(x[k], v), Pack::unpack(dy[k], du);
    GENFAST_UNROLL
    for (int j = 0; j < wide; ++j) v[j] = du[j] - fma_(v[j] - mean, means.times, means.plain);
    if (args.more) {
      typename Pack::Word more = Pack::load(args.more, place(k));
      Pack::unpack(more, du);
      GENFAST_UNROLL
      for (int j = 0; j < wide; ++j) v[j] = v[j] + du[j];
    }
    Pack::store(args.dx, place(k), Pack::pack(v));
  }
  if (stage == Stage::whole && split.parts > 1) cluster_wait();  // the others may still read from this block
}

}  // namespace genfast::inline GENFAST_ISA
