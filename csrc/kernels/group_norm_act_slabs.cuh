#pragma once
// Group norm over channels-last maps: a block holds some pixels of a slab of whole groups, those of a cluster all.
#include "group_norm_act_columns.cuh"

namespace genfast::inline GENFAST_ISA {

// Shared memory beside the sums: of each channel its mean and its line, of each group what the block tells.
inline size_t slab_bytes(const SlabSplit& split, int wide) {
  return sizeof(float) * (ColumnSums::floats(split, wide) + 3 * split.slab + 4 * split.groups);
}

template <class T, int threads, int packs, int least_blocks, class Passes>
__global__ void __launch_bounds__(threads, least_blocks)
    slab_kernel(const __grid_constant__ GroupNormActArgs args, const __grid_constant__ SlabSplit split,
                const __grid_constant__ Passes passes) {
  using Pack = Packs<T, true>;
  constexpr int wide = Pack::kWide, warps = threads / 32;
  GENFAST_DYNAMIC_SHARED(Moments, told);  // of the groups
  Pair* const line = reinterpret_cast<Pair*>(told + split.groups);
  float* const means = reinterpret_cast<float*>(line + split.slab);
  const ColumnSums sums{means + split.slab, split, wide};
  const GroupNorm& p = args.norm;
  const Here here = here_in(passes);
  if (here.stage == Stage::none) return;
  SlabPart<T> part(p, split, here);
  const int per_group = int(p.per_group), groups = part.groups, warp = int(threadIdx.x / 32);
  const int64_t at = part.n * p.groups + part.first_group;

  typename Pack::Word held[packs];
  begin<threads>(p, part, here.stage, held, line);

  if (here.stage != Stage::rest) {
    const float count = float(part.count) * float(per_group);
    float sum[wide] = {}, squares[wide] = {}, mean[wide];
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      float v[wide];
      Pack::unpack(held[k], v);
      GENFAST_UNROLL
      for (int j = 0; j < wide; ++j) sum[j] = sum[j] + v[j];
    }
    sums.add(part.row, part.column, sum);
    find_again(part.mine);
    for (int g = warp; g < groups; g += warps) {
      const float of_group = sums.of_group(g * per_group, per_group) / count;
      for (int c = int(threadIdx.x % 32); c < per_group; c += 32) means[g * per_group + c] = of_group;
    }
    __syncthreads();
    GENFAST_UNROLL
    for (int j = 0; j < wide; ++j) mean[j] = part.inside ? means[part.column * wide + j] : 0.0f;
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      float v[wide];
      Pack::unpack(held[k], v);
      if (part.has(k)) {
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) v[j] = v[j] - mean[j], squares[j] = fma_(v[j], v[j], squares[j]);
      }
    }
    sums.add(part.row, part.column, squares);
    for (int g = warp; g < groups; g += warps) {
      const Moments own{means[g * per_group], sums.of_group(g * per_group, per_group), count};
      if (threadIdx.x % 32 == 0) {
        told[g] = own;
        if (Passes::kTwice)
          reinterpret_cast<Moments*>(p.partial)[(part.n * split.parts + part.part) * p.groups + part.first_group + g] =
              own;
      }
    }
    if constexpr (Passes::kTwice) return tell(passes, [&](const Here& at) { put_together(args, split, at); });
  }
  if constexpr (Passes::kTwice)
    listen(passes);
  else if (split.parts > 1)
    cluster_sync();
  else
    __syncthreads();
  for (int g = warp; g < groups; g += warps) {
    const auto of_part = [&](int q) { return *shared_of(&told[g], q); };
    const Pair moments = Passes::kTwice
                             ? Pair{p.mean[at + g], p.rstd[at + g]}
                             : put_together(split.parts, float(p.maps.pixels * per_group), args.eps, of_part);
    for (int c = g * per_group + int(threadIdx.x % 32); c < (g + 1) * per_group; c += 32) {
      line[c].first = line[c].first * moments.second, means[c] = moments.first;
    }
    if (!Passes::kTwice && p.mean && threadIdx.x % 32 == 0 && part.part == 0)
      p.mean[at + g] = moments.first, p.rstd[at + g] = moments.second;
  }
  if (!Passes::kTwice && split.parts > 1) cluster_arrive();
  __syncthreads();

  if (part.inside) {
    Pair u[wide];
    float mean[wide];
    GENFAST_UNROLL
    for (int j = 0; j < wide; ++j) u[j] = line[part.column * wide + j], mean[j] = means[part.column * wide + j];
    find_again(part.mine);
    with_activation_of<T>(p, [&](auto act) {
      part.template each_place<packs>([&](int k, int64_t place) {
        float v[wide];
        Pack::unpack(held[k], v);
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j) v[j] = act.value(fma_(v[j] - mean[j], u[j].first, u[j].second));
        if (part.has(k)) Pack::store(args.y, place, Pack::pack(v));
      });
    });
  }
  if (!Passes::kTwice && split.parts > 1) cluster_wait();  // the others may still read from this block
}

}  // namespace genfast::inline GENFAST_ISA
