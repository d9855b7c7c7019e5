#pragma once
// The backward of group norm over channels-last maps: a block holds some pixels of a slab, those of a cluster all.
#include "group_norm_act_columns.cuh"

namespace genfast::inline GENFAST_ISA {

// Shared memory: what waits; of each channel its moments, its line, and what the block tells; the sums.
inline size_t slab_backward_bytes(const SlabSplit& split, int wide) {
  return waiting_bytes(split, kBlocksBackward[0].held) +
         sizeof(float) * (ColumnSums::floats(split, wide) + 6 * split.slab);
}

template <class T, class Passes>
__global__ void __launch_bounds__(512, 1)
    slab_backward_kernel(const __grid_constant__ GroupNormActBackwardArgs args, const __grid_constant__ SlabSplit split,
                         const __grid_constant__ Passes passes) {
  using Pack = Packs<T, true>;
  constexpr int packs = kBlocksBackward[0].held, wide = Pack::kWide;
  GENFAST_DYNAMIC_SHARED(typename Pack::Word, room);
  const Waiting<typename Pack::Word, packs> waiting{room};
  // Of the channels: sums of du and du x_hat.
  Pair* const channels = reinterpret_cast<Pair*>(room + (split.loads - 1) * 2 * packs * split.threads);
  Pair* const line = channels + split.slab;  // slope rstd, offset; then the means of the group
  Pair* const moments = line + split.slab;   // mean, rstd
  const ColumnSums sums{reinterpret_cast<float*>(moments + split.slab), split, wide};
  const GroupNorm& p = args.norm;
  const Here here = here_in(passes);
  if (here.stage == Stage::none) return;
  SlabPart<T> part(p, split, here);
  const int per_group = int(p.per_group), groups = part.groups, lane = int(threadIdx.x % 32);
  const int thread = int(threadIdx.x), threads = int(blockDim.x), warp = thread / 32, warps = threads / 32;
  const int64_t at = part.n * p.groups + part.first_group;

  typename Pack::Word x[packs], dy[packs];
  part.load(p.x, x);
  part.load(args.dy, dy);
  for (int c = thread; c < part.width; c += threads) {
    const int64_t group = at + divided(c, split.of_group);
    moments[c] = {p.mean[group], p.rstd[group]};
    line[c] = {moments[c].second * slope_of(p, part.n, part.channel + c), offset_of(p, part.n, part.channel + c)};
  }
  __syncthreads();

  const int first = part.inside ? part.column * wide : 0;
  float mean[wide], sum[wide] = {}, times[wide] = {};
  GENFAST_UNROLL
  for (int j = 0; j < wide; ++j) mean[j] = moments[first + j].first;
  with_activation_of<T>(p, [&](auto act) {
    int column = first;
    for (int left = split.loads - 1;; --left) {
      GENFAST_UNROLL
      for (int k = 0; k < packs; ++k) {
        if (sizeof(T) == 2) {  // pack by pack, the lines read again: all at once they do not fit in registers
          find_again(column);
          if (!part.has(k)) continue;
        }
        Pair u[wide];
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) u[j] = line[column + j];
        float v[wide], du[wide];
        Pack::unpack(x[k], v), Pack::unpack(dy[k], du);
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) {
          const float centered = v[j] - mean[j];
          du[j] = du[j] * act.slope(fma_(centered, u[j].first, u[j].second));
          sum[j] = sum[j] + du[j], times[j] = fma_(du[j], centered, times[j]);
          du[j] = u[j].first * du[j];
        }
        dy[k] = Pack::pack(du);
      }
      if (Passes::kTwice || left == 0) break;
      waiting.put(left - 1, x, dy), part.move(packs), part.load(p.x, x), part.load(args.dy, dy);
    }
  });

  if (here.stage != Stage::rest) {
    sums.add(part.row, part.column, sum);
    for (int c = thread; c < part.width; c += threads) channels[c].first = sums.of_channel(c);
    sums.add(part.row, part.column, times);
    for (int c = thread; c < part.width; c += threads) {
      channels[c].second = moments[c].second * sums.of_channel(c);
      if (Passes::kTwice)
        reinterpret_cast<Pair*>(p.partial)[(part.n * split.parts + part.part) * p.maps.channels + part.channel + c] =
            channels[c];
    }
    if constexpr (Passes::kTwice) return tell(passes, [&](const Here& at) { put_together(args, split, at); });
    if (split.parts > 1) cluster_sync();
    for (int c = thread; c < part.width; c += threads) {
      Pair of[kMostParts], all{0.0f, 0.0f};
      GENFAST_UNROLL
      for (int q = 0; q < kMostParts; ++q)
        of[q] = q < split.parts ? *shared_of(&channels[c], q) : Pair{0.0f, 0.0f};  // on their way at once
      GENFAST_UNROLL
      for (int q = 0; q < kMostParts; ++q) all = {all.first + of[q].first, all.second + of[q].second};
      if (part.part == 0) {
        float* to = p.sums + 2 * part.n * p.maps.channels + part.channel + c;
        to[0] = all.first, to[p.maps.channels] = all.second;
      }
      line[c] = {line[c].first * all.first, line[c].first * all.second};
    }
    if (split.parts > 1) cluster_arrive();
    __syncthreads();
  } else if constexpr (Passes::kTwice) {
    listen(passes);
  }
  for (int g = warp; g < groups; g += warps) {
    const int begin = g * per_group;
    GroupMeans means;
    if (here.stage == Stage::rest) {
      means = args.means[at + g];
    } else {
      const float count = float(p.per_group * p.maps.pixels);
      Pair group{0.0f, 0.0f};
      for (int c = begin + lane; c < begin + per_group; c += 32)
        group = {group.first + line[c].first, group.second + line[c].second};
      means = {warp_sum(group.first) / count, moments[begin].second * warp_sum(group.second) / count};
    }
    for (int c = begin + lane; c < begin + per_group; c += 32) line[c] = {means.plain, means.times};
  }
  __syncthreads();

  if (part.inside) {
    find_again(part.mine);
    Pair means[wide];
    GENFAST_UNROLL
    for (int j = 0; j < wide; ++j) means[j] = line[first + j];
    const auto finish = [&](auto with_more) {
      for (int load = 0;; ++load) {
        GENFAST_UNROLL
        for (int k = 0; k < packs; ++k) {
          float v[wide], du[wide];
          Pack::unpack(x[k], v), Pack::unpack(dy[k], du);
          GENFAST_UNROLL
          for (int j = 0; j < wide; ++j) v[j] = du[j] - fma_(v[j] - mean[j], means[j].second, means[j].first);
          if (!part.has(k)) continue;
          store_gradient<Pack, decltype(with_more)::value>(args, part.place(k), v);
        }
        if (Passes::kTwice || load + 1 == split.loads) break;
        part.move(-packs), waiting.get(load, x, dy);
      }
    };
    if (args.more)
      finish(std::true_type{});
    else
      finish(std::false_type{});
  }
  if (!Passes::kTwice && split.parts > 1) cluster_wait();  // the others may still read from this block
}

}  // namespace genfast::inline GENFAST_ISA
