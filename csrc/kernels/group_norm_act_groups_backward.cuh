#pragma once
// The backward of group norm where a block holds a group, or a part of one.
#include "group_norm_act_groups.cuh"

namespace genfast::inline GENFAST_ISA {

// Shared memory: the lines of the channels, and what the packs add to their sums; or what waits there.
inline size_t group_backward_bytes(const GroupSplit& split) {
  constexpr int held = kBlocksBackward[0].held;
  const size_t line = sizeof(Pair) * ((split.channels + 1) / 2 * 2);  // what follows is aligned
  return line + (split.loads > 1 ? waiting_bytes(split, held) : sizeof(Pair) * split.threads * held);
}

// du = dL/du; a du waits where dy was, rounded as torch rounds a gradient of that type.
// Blocks have 512 threads at most; 768 stand for 80 registers, so that three of 256 fit.
template <class T, bool vector, class Passes>
__global__ void __launch_bounds__(768, 1)
    group_backward_kernel(const __grid_constant__ GroupNormActBackwardArgs args,
                          const __grid_constant__ GroupSplit split, const __grid_constant__ Passes passes) {
  using Pack = Packs<T, vector>;
  constexpr int packs = kBlocksBackward[0].held, wide = Pack::kWide;
  GENFAST_DYNAMIC_SHARED(Pair, line);  // of the channels: slope rstd, offset
  Pair* const of_packs = line + (split.channels + 1) / 2 * 2;
  const Waiting<typename Pack::Word, packs> waiting{reinterpret_cast<typename Pack::Word*>(of_packs)};
  GENFAST_SHARED(Pair[16], of_warps);
  GENFAST_SHARED(Pair[2], told);  // of the group; of the one channel of a slice
  const GroupNorm& p = args.norm;
  const Here here = here_in(passes);
  if (here.stage == Stage::none) return;
  const GroupPart part(p, split, here);
  GroupPlaces<T, vector, packs> place(p, split, part);
  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32, warps = int(blockDim.x / 32);

  constexpr bool waits = vector && !Passes::kTwice;  // what is loaded more than once, in shared memory

  // Where a warp has packs of one channel only, its sums need no shared memory.
  const bool even = split.even(packs * split.loads);
  Pair sums{0.0f, 0.0f};

  typename Pack::Word x[packs], dy[packs];
  const auto load = [&] {
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      x[k] = place.has(k) ? Pack::load(p.x, place(k)) : Pack::zero();
      dy[k] = place.has(k) ? Pack::load(args.dy, place(k)) : Pack::zero();
    }
  };
  load();
  const int64_t at = part.n * p.groups + part.group;
  const float mean = p.mean[at], rstd = p.rstd[at];
  for (int c = thread; c < part.channels; c += int(blockDim.x))
    line[c] = {rstd * slope_of(p, part.n, part.channel + c), offset_of(p, part.n, part.channel + c)};
  __syncthreads();

  with_activation_of<T>(p, [&](auto act) {
    for (int left = split.loads - 1;; --left) {
      GENFAST_UNROLL
      for (int k = 0; k < packs; ++k) {
        if (sizeof(T) == 2 && !place.has(k)) continue;  // pack by pack: all at once do not fit in registers
        const Pair of_channel = line[place.channel(k)];
        float v[wide], du[wide];
        Pack::unpack(x[k], v), Pack::unpack(dy[k], du);
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) {
          v[j] = v[j] - mean;
          du[j] = du[j] * act.slope(fma_(v[j], of_channel.first, of_channel.second));
          v[j] = du[j] * v[j];
        }
        const Pair of_pack{sum_of(du), sum_of(v)};
        sums = {sums.first + of_pack.first, sums.second + of_pack.second};
        if (!even && place.has(k)) of_packs[place.first + 32 * k] = of_pack;
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) du[j] = of_channel.first * du[j];
        dy[k] = Pack::pack(du);
      }
      if (!waits || left == 0) break;
      waiting.put(left - 1, x, dy), place.move(1), load();
    }
  });

  GroupMeans means;
  if (here.stage != Stage::rest) {
    const auto put = [&](int c, const Pair& of_channel) {
      const int64_t channel = part.n * p.maps.channels + part.channel + c;
      if (Passes::kTwice)
        reinterpret_cast<Pair*>(p.partial)[channel * split.slices + part.part % split.slices] = of_channel;
      else if (split.slices > 1)
        told[1] = of_channel;
      else
        p.sums[channel + part.n * p.maps.channels] = of_channel.first,
                                  p.sums[channel + (part.n + 1) * p.maps.channels] = of_channel.second;
    };
    Pair group{0.0f, 0.0f};
    if (even) {
      sums = warp_sum(sums);
      if (lane == 0) of_warps[warp] = {sums.first, rstd * sums.second};
      __syncthreads();
      const int per_channel = split.channels == 1 ? warps : split.per_slice / (32 * packs * split.loads);
      if (lane < warps) {
        const float slope =
            line[split.channels == 1 ? 0 : divided(lane * 32 * packs * split.loads, split.inverse)].first;
        group = {slope * of_warps[lane].first, slope * of_warps[lane].second};
      }
      group = warp_sum(group);
      if (thread < part.channels) {
        Pair of_channel{0.0f, 0.0f};
        for (int w = thread * per_channel; w < (thread + 1) * per_channel; ++w)
          of_channel = {of_channel.first + of_warps[w].first, of_channel.second + of_warps[w].second};
        put(thread, of_channel);
      }
    } else {
      __syncthreads();
      for (int c = warp; c < part.channels; c += warps) {  // a warp a channel
        Pair of_channel{0.0f, 0.0f};
        for (int i = c * split.per_slice + lane; i < (c + 1) * split.per_slice; i += 32)
          of_channel = {of_channel.first + of_packs[i].first, of_channel.second + of_packs[i].second};
        of_channel = warp_sum(of_channel), of_channel.second = rstd * of_channel.second;
        group = {fma_(line[c].first, of_channel.first, group.first),
                 fma_(line[c].first, of_channel.second, group.second)};
        if (lane == 0) put(c, of_channel);
      }
      if (lane == 0) of_warps[warp] = group;
      __syncthreads();
      group = warp_sum(lane < warps ? of_warps[lane] : Pair{0.0f, 0.0f});
    }
    if constexpr (Passes::kTwice) {
      return tell(passes, [&](const Here& at) { put_together(args, split, at); });
    } else if (split.parts > 1) {
      if (thread == 0) told[0] = group;
      cluster_sync();
      group = warp_sum(lane < split.parts ? *shared_of(&told[0], lane) : Pair{0.0f, 0.0f});
      if (split.slices > 1 && part.slice == 0 && warp == 0) {
        const Pair channel = warp_sum(lane < split.slices ? *shared_of(&told[1], part.part + lane) : Pair{0.0f, 0.0f});
        float* to = p.sums + 2 * part.n * p.maps.channels + part.channel;
        if (lane == 0) to[0] = channel.first, to[p.maps.channels] = channel.second;
      }
      cluster_arrive();
    }
    const float count = float(p.per_group * p.maps.pixels);
    means = {group.first / count, rstd * group.second / count};
  } else if constexpr (Passes::kTwice) {
    listen(passes);
    means = args.means[at];
  }

  const auto finish = [&](auto with_more) {
    for (int load = 0;; ++load) {
      GENFAST_UNROLL
      for (int k = 0; k < packs; ++k) {
        float v[wide], du[wide];
        Pack::unpack(x[k], v), Pack::unpack(dy[k], du);
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) v[j] = du[j] - fma_(v[j] - mean, means.times, means.plain);
        if (!place.has(k)) continue;
        store_gradient<Pack, decltype(with_more)::value>(args, place(k), v);
      }
      if (!waits || load + 1 == split.loads) break;
      place.move(-1), waiting.get(load, x, dy);
    }
  };
  if (args.more)
    finish(std::true_type{});
  else
    finish(std::false_type{});
  if (!Passes::kTwice && split.parts > 1) cluster_wait();  // the others may still read from this block
}

}  // namespace genfast::inline GENFAST_ISA
