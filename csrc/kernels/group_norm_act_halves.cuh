#pragma once
// Group norm over channels-last maps whose groups are packs, or a half of one: a thread needs two sums, those of the
// halves of its packs, and lanes of a warp put together what is of the same column.
#include "group_norm_act_columns.cuh"
#include "group_norm_act_sums.cuh"

namespace genfast::inline GENFAST_ISA {

// Of a column of packs: the means of its halves, and the sums of squares of what they differ from these by.
struct alignas(16) HalfMoments {
  Pair means, squares;
};

// Shared memory: what blocks tell of their columns, two sums of each warp for each of them, and the lines of channels.
inline size_t halves_bytes(const SlabSplit& split) {
  return sizeof(HalfMoments) * split.columns + sizeof(Pair) * (split.threads / 16 * split.columns + split.slab);
}

// Over the lanes that have the same column: of the first number on the lower half of a warp, of the second on the
// upper.
__device__ inline float sum_of_column(const Pair& v, int columns) {
  const bool upper = threadIdx.x & 16;
  float sum = (upper ? v.second : v.first) + __shfl_xor_sync(0xffffffffu, upper ? v.first : v.second, 16);
  for (int distance = 8; distance >= columns; distance >>= 1) sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;
}
__device__ inline Pair sums_of_column(const Pair& v, int columns) {
  const float sum = sum_of_column(v, columns), other = __shfl_xor_sync(0xffffffffu, sum, 16);
  return threadIdx.x & 16 ? Pair{other, sum} : Pair{sum, other};
}

// Over the block and the group: of each half alone where it is one, else the same twice.  `room`: [warps][columns], for
// this sum alone.
__device__ inline Pair sum_of_halves(const Pair& v, const SlabSplit& split, Pair* room) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), columns = split.columns;
  const float sum = sum_of_column(v, columns);
  if (lane % 16 < columns)
    (lane < 16 ? room[warp * columns + lane].first : room[warp * columns + lane - 16].second) = sum;
  __syncthreads();
  Pair all{0.0f, 0.0f};
  for (int i = lane; i < split.sums; i += 32) all = {all.first + room[i].first, all.second + room[i].second};
  all = sums_of_column(all, columns);
  if (split.group_columns == 0) return all;
  float both = all.first + all.second;
  for (int distance = 1; distance < split.group_columns; distance <<= 1)
    both = both + __shfl_xor_sync(0xffffffffu, both, distance);
  return {both, both};
}

template <class T, int threads, int packs, int least_blocks, class Passes>
__global__ void __launch_bounds__(threads, least_blocks)
    halves_kernel(const __grid_constant__ GroupNormActArgs args, const __grid_constant__ SlabSplit split,
                  const __grid_constant__ Passes passes) {
  using Pack = Packs<T, true>;
  constexpr int wide = Pack::kWide, half = wide / 2;
  GENFAST_DYNAMIC_SHARED(HalfMoments, columns_told);
  Pair* const of_sums = reinterpret_cast<Pair*>(columns_told + split.columns);
  Pair* const of_squares = of_sums + threads / 32 * split.columns;
  Pair* const line = of_squares + threads / 32 * split.columns;
  const GroupNorm& p = args.norm;
  const Here here = here_in(passes);
  if (here.stage == Stage::none) return;
  SlabPart<T> part(p, split, here);
  const int thread = int(threadIdx.x), columns = split.columns;
  typename Pack::Word held[packs];
  begin<threads>(p, part, here.stage, held, line);

  // Calls f of the group of each half, where a half or a thread's pack is the first of its group.
  const auto visit_groups = [&](bool first_only, const auto& f) {
    int column = part.column;
    find_again(column);  // nothing of this is to be held meanwhile
    const int group = divided(column * wide, split.of_group);
    if (!part.inside || (first_only && (thread >= columns || group * int(p.per_group) != column * wide))) return;
    f(part.first_group + group, 0);
    if (!first_only || split.group_columns == 0) f(part.first_group + group + (split.group_columns == 0), 1);
  };
  Pair mean{}, rstd{};
  if (here.stage != Stage::rest) {
    const SlabSplit::Pixels& pixels = split.pixels(part.part);
    const float each = pixels.each;
    Pair squares{0.0f, 0.0f};
    Pair sums = sum_of_halves(sums_of_halves<T>(held), split, of_sums);
    mean = {sums.first * each, sums.second * each};
    find_again(part.mine);
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      float v[wide];
      Pack::unpack(held[k], v);
      const Pair missing = part.has(k) ? mean : Pair{0.0f, 0.0f};  // no branch: what is not there is 0
      GENFAST_UNROLL
      for (int j = 0; j < half; ++j) {
        const float lower = v[j] - missing.first, upper = v[half + j] - missing.second;
        squares = {fma_(lower, lower, squares.first), fma_(upper, upper, squares.second)};
      }
    }
    squares = sum_of_halves(squares, split, of_squares);
    if constexpr (Passes::kTwice) {
      Moments* const to = reinterpret_cast<Moments*>(p.partial) + (part.n * split.parts + part.part) * p.groups;
      visit_groups(true, [&](int64_t group, int half) {
        to[group] = half ? Moments{mean.second, squares.second, pixels.weight}
                         : Moments{mean.first, squares.first, pixels.weight};
      });
      return tell(passes, [&](const Here& at) { put_together(args, split, at); });
    }
    const float all = split.of_all;
    if (split.parts > 1) {  // a lane has a part of its column
      if (thread < columns) columns_told[thread] = {mean, squares};
      cluster_sync();
      const int q = part.row & (split.per_warp - 1);
      const HalfMoments its = q < split.parts ? *shared_of(&columns_told[part.column], q) : HalfMoments{};
      cluster_arrive();
      const float count = q < split.parts ? split.pixels(q).weight : 0.0f;
      sums = sums_of_column({count * its.means.first, count * its.means.second}, columns);
      mean = {sums.first * all, sums.second * all};
      const float lower = its.means.first - mean.first, upper = its.means.second - mean.second;
      squares = sums_of_column(
          {fma_(count * lower, lower, its.squares.first), fma_(count * upper, upper, its.squares.second)}, columns);
    }
    rstd = {inverse_sqrt(fma_(squares.first, all, args.eps)), inverse_sqrt(fma_(squares.second, all, args.eps))};
    if (p.mean && part.part == 0)
      visit_groups(true, [&](int64_t group, int half) {
        p.mean[part.n * p.groups + group] = half ? mean.second : mean.first;
        p.rstd[part.n * p.groups + group] = half ? rstd.second : rstd.first;
      });
  } else if constexpr (Passes::kTwice) {
    listen(passes);
    visit_groups(false, [&](int64_t group, int half) {
      const int64_t at = part.n * p.groups + group;
      (half ? mean.second : mean.first) = p.mean[at], (half ? rstd.second : rstd.first) = p.rstd[at];
    });
  }

  if (part.inside) {
    Pair u[wide];
    GENFAST_UNROLL
    for (int j = 0; j < wide; ++j) {
      u[j] = line[part.column * wide + j];
      u[j].first = u[j].first * (j < half ? rstd.first : rstd.second);
    }
    find_again(part.base);
    find_again(part.mine);
    with_activation_of<T>(p, [&](auto act) {
      part.template each_place<packs>([&](int k, int64_t place) {
        float v[wide];
        Pack::unpack(held[k], v);
        GENFAST_UNROLL
        for (int j = 0; j < wide; ++j)
          v[j] = act.value(fma_(v[j] - (j < half ? mean.first : mean.second), u[j].first, u[j].second));
        find_again(part.mine);
        if (part.has(k)) Pack::store(args.y, place, Pack::pack(v));
      });
    });
  }
  if (!Passes::kTwice && split.parts > 1) cluster_wait();  // the others may still read from this block
}

}  // namespace genfast::inline GENFAST_ISA
