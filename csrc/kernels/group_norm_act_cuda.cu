#include <type_traits>

#include "group_norm_act_body.h"
#include "group_norm_act_columns.cuh"
#include "reduce.cuh"

namespace genfast::cuda {

// The activation is chosen at run time: a uniform branch costs nothing beside memory, four times the kernels would.
struct AnyActivation {
  int which;
  GENFAST_HD float value(float u) const {
    return with_activation(Activation(which), [&](auto act) { return act.value(u); });
  }
  GENFAST_HD float slope(float u) const {
    return with_activation(Activation(which), [&](auto act) { return act.slope(u); });
  }
};

// A thread visits one group of one sample: visit(n, group).
template <class Visit>
__global__ void __launch_bounds__(kThreads)
    groups_kernel(const __grid_constant__ Visit visit, int64_t batch, int64_t groups) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < batch * groups; i += int64_t(gridDim.x) * kThreads)
    visit(i / groups, i % groups);
}

template <class Visit>
static const char* each_group(const GroupNorm& p, const Visit& visit, Stream stream) {
  GENFAST_KERNEL_LAUNCH((groups_kernel<Visit>), dim3(blocks_for(p.maps.batch * p.groups, kThreads)), dim3(kThreads), 0,
                        stream, visit, p.maps.batch, p.groups);
  return launch_error();
}

template <class T>
struct Start {
  GroupNorm p;
  GENFAST_HD void operator()(int64_t n, int64_t group) const { set_pivot<T>(p, n, group); }
};
template <class Args>
struct Finish {
  Args args;
  GENFAST_HD void operator()(int64_t n, int64_t group) const { finish_group(args, n, group); }
};

// A block takes a whole group: sums it, finishes it and maps it, in one launch.  The second reading finds in the cache
// what the first brought.
constexpr int64_t kGroupBytes = 128 << 10;
constexpr int kMostWarps = 16;

template <class Summing, class Mapping, bool vector, class Args>
__global__ void __launch_bounds__(32 * kMostWarps, 1)
    group_kernel(const __grid_constant__ Args args, const __grid_constant__ Planar<Summing> summing,
                 const __grid_constant__ Planar<Mapping> mapping) {
  const GroupNorm& p = args.norm;
  const Shape shape{p.maps.batch * p.maps.channels, p.maps.pixels, 1};
  const int64_t per_group = p.per_group;
  const bool first_thread = threadIdx.x == 0 && threadIdx.y == 0;
  for (int64_t work = blockIdx.x; work < p.maps.batch * p.groups; work += gridDim.x) {
    const int64_t begin = work * per_group, end = begin + per_group;
    if constexpr (std::is_same_v<Args, GroupNormActArgs>) {
      if (first_thread) set_pivot<typename Summing::Type>(p, work / p.groups, work % p.groups);
      __syncthreads();
    }
    for (int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
      float sum[2] = {};
      const auto apply = summing.row(row);
      for (int64_t start = 0; start < p.maps.pixels; start += kChunk) {
        float chunk[2];
        sum_chunk<vector>(shape, apply, row, start, chunk);
        sum[0] = sum[0] + chunk[0], sum[1] = sum[1] + chunk[1];
      }
      if (threadIdx.x == 0) summing.finish(row, sum);
    }
    __syncthreads();
    if (first_thread) finish_group(args, work / p.groups, work % p.groups);
    __syncthreads();
    for (int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
      const auto apply = mapping.row(row);
      for (int64_t first = threadIdx.x * 8; first < p.maps.pixels; first += 32 * 8)
        apply(CudaTile<vector>{shape, row, first});
    }
  }
}

template <bool vector, class Summing, class Mapping, class Args>
static const char* whole_groups(const Args& args, const Summing& summing, const Mapping& mapping, Stream stream) {
  const GroupNorm& p = args.norm;
  const int64_t per_group = p.per_group;
  const unsigned warps = unsigned(per_group < kMostWarps ? per_group : kMostWarps);
  GENFAST_KERNEL_LAUNCH((group_kernel<Summing, Mapping, vector, Args>), dim3(blocks_for(p.maps.batch * p.groups, 1)),
                        dim3(32, warps), 0, stream, args, Planar<Summing>{summing}, Planar<Mapping>{mapping});
  return launch_error();
}

template <class Summing>
static const char* sum(const Summing& pass, bool are_aligned, Stream stream) {
  const GroupNorm& p = pass.p.norm;
  if (!p.maps.last) return reduce(rows_of(p.maps), are_aligned, Planar<Summing>{pass}, p.partial, stream);
  if (are_aligned && p.maps.channels % 8 == 0) return sum_columns<Summing, true>(pass, stream);
  return sum_columns<Summing, false>(pass, stream);
}

template <class Mapping>
static const char* apply(const Mapping& pass, bool are_aligned, Stream stream) {
  const Maps& maps = pass.p.norm.maps;
  if (!maps.last) return map(rows_of(maps), are_aligned, Planar<Mapping>{pass}, stream);
  if (are_aligned && maps.channels % 8 == 0) return map_columns<Mapping, true>(pass, stream);
  return map_columns<Mapping, false>(pass, stream);
}

template <class Summing, class Mapping, class Args>
static const char* run(const Args& args, bool are_aligned, const Summing& summing, const Mapping& mapping,
                       Stream stream) {
  const GroupNorm& p = args.norm;
  if (p.maps.batch * p.maps.channels * p.maps.pixels == 0) return nullptr;
  const int64_t per_group = p.per_group;
  const bool fits = per_group * p.maps.pixels * int64_t(sizeof(typename Summing::Type)) <= kGroupBytes;
  const bool fills_warps = per_group >= 4 || p.maps.pixels <= kChunk;
  if (!p.maps.last && fits && fills_warps) {
    if (are_aligned && p.maps.pixels % 8 == 0) return whole_groups<true>(args, summing, mapping, stream);
    return whole_groups<false>(args, summing, mapping, stream);
  }
  if constexpr (std::is_same_v<Args, GroupNormActArgs>)
    if (const char* error = each_group(p, Start<typename Summing::Type>{p}, stream)) return error;
  if (const char* error = sum(summing, are_aligned, stream)) return error;
  if (const char* error = each_group(p, Finish<Args>{args}, stream)) return error;
  return apply(mapping, are_aligned, stream);
}

const char* group_norm_act(const GroupNormActArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    const AnyActivation act{p.norm.activation};
    error = run(p, aligned(p.norm.x, p.y), MomentsPass<T>{p}, ApplyPass<T, AnyActivation>{p, act}, stream);
  });
  return error;
}

const char* group_norm_act_backward(const GroupNormActBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    const AnyActivation act{p.norm.activation};
    error = run(p, aligned(p.norm.x, p.dy, p.dx), SlopesPass<T, AnyActivation>{p, act},
                GradientPass<T, AnyActivation>{p, act}, stream);
  });
  return error;
}

}  // namespace genfast::cuda
