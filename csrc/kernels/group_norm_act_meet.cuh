#pragma once
// What the parts of a group tell each other: moments, which are put together as if all values had been at hand.
#include "cluster.cuh"
#include "group_norm_act_body.h"
#include "group_norm_act_split.h"
#include "held.cuh"
#include "inverse_sqrt.cuh"

namespace genfast::inline GENFAST_ISA {

// In one launch, or in two with the moments of all parts put together between them.
enum class Stage : int { whole, sums, rest };

// Of `count` values: their mean, and the sum of squares of what they differ from it by.
struct alignas(16) Moments {
  float mean, squares, count;
};

// A warp puts those of at most 32 parts together, moments(q).  All threads get the mean and 1 / sqrt(var + eps).
template <class Find>
__device__ inline Pair put_together(int parts, float count, float eps, const Find& moments) {
  const int lane = int(threadIdx.x % 32);
  const Moments part = lane < parts ? moments(lane) : Moments{0.0f, 0.0f, 0.0f};
  const float mean = warp_sum(part.count * part.mean) / count, apart = part.mean - mean;
  return {mean, 1.0f / sqrtf(warp_sum(fma_(part.count * apart, apart, part.squares)) / count + eps)};
}

// The activation is chosen at run time, before a loop: a switch costs nothing beside memory, four times the kernels
// would.
template <class Function>
GENFAST_HD void with_activation_of(const GroupNorm& p, const Function& f) {
  with_activation(Activation(p.activation), f);
}

// A pack and what is added to it, rounded.
template <class Pack>
GENFAST_HD typename Pack::Word plus(typename Pack::Word x, const float (&add)[Pack::kWide]) {
  float v[Pack::kWide];
  Pack::unpack(x, v);
  GENFAST_UNROLL
  for (int j = 0; j < Pack::kWide; ++j) v[j] = v[j] + add[j];
  return Pack::pack(v);
}

// Stores the gradient of a pack, with what comes to it through the sum that was answered.
template <class Pack, bool with_more>
GENFAST_HD void store_gradient(const GroupNormActBackwardArgs& args, int64_t place, float (&v)[Pack::kWide]) {
  if constexpr (with_more) {
    float more[Pack::kWide];
    typename Pack::Word word = Pack::load(args.more, place);
    Pack::unpack(word, more);
    GENFAST_UNROLL
    for (int j = 0; j < Pack::kWide; ++j) v[j] = v[j] + more[j];
  }
  Pack::store(args.dx, place, Pack::pack(v));
}

// ---- between two launches: a block a group ----
template <class Split>
__global__ void __launch_bounds__(kThreads)
    together_kernel(const __grid_constant__ GroupNormActArgs args, const __grid_constant__ Split split) {
  GENFAST_SHARED(float[32], room);
  GENFAST_SHARED(float[32], more_room);
  const GroupNorm& p = args.norm;
  const int64_t at = blockIdx.x, n = at / p.groups, group = at % p.groups;
  const Moments* from = reinterpret_cast<const Moments*>(p.partial) + n * p.groups * split.parts;
  const float count = float(p.per_group * p.maps.pixels);
  float sum = 0.0f, squares = 0.0f;
  for (int q = int(threadIdx.x); q < split.parts; q += kThreads) {
    const Moments part = from[split.place_of_group(p, group, q)];
    sum = sum + part.count * part.mean;
  }
  const float mean = block_sum(sum, room) / count;
  for (int q = int(threadIdx.x); q < split.parts; q += kThreads) {
    const Moments part = from[split.place_of_group(p, group, q)];
    const float apart = part.mean - mean;
    squares = squares + fma_(part.count * apart, apart, part.squares);
  }
  const float variance = block_sum(squares, more_room) / count;
  if (threadIdx.x == 0) p.mean[at] = mean, p.rstd[at] = 1.0f / sqrtf(variance + args.eps);
}

// A warp a channel.
template <class Split>
__global__ void __launch_bounds__(kThreads)
    together_kernel(const __grid_constant__ GroupNormActBackwardArgs args, const __grid_constant__ Split split) {
  GENFAST_SHARED(float[32], room);
  GENFAST_SHARED(float[32], more_room);
  const GroupNorm& p = args.norm;
  const int64_t at = blockIdx.x, n = at / p.groups, first = at % p.groups * p.per_group;
  const int pieces = split.pieces(), lane = int(threadIdx.x % 32);
  const Pair* from = reinterpret_cast<const Pair*>(p.partial) + n * p.maps.channels * pieces;
  float* to = p.sums + 2 * n * p.maps.channels;
  Pair group{0.0f, 0.0f};
  for (int64_t c = first + threadIdx.x / 32; c < first + p.per_group; c += kWarps) {
    Pair sums{0.0f, 0.0f};
    for (int q = lane; q < pieces; q += 32) {
      const Pair piece = from[split.place_of_channel(p, c, q)];
      sums = {sums.first + piece.first, sums.second + piece.second};
    }
    sums = warp_sum(sums);
    if (lane != 0) continue;
    to[c] = sums.first, to[p.maps.channels + c] = sums.second;
    const float slope = slope_of(p, n, c);
    group = {fma_(slope, sums.first, group.first), fma_(slope, sums.second, group.second)};
  }
  const float count = float(p.per_group * p.maps.pixels), rstd = p.rstd[at];
  const float plain = block_sum(group.first, room) / count, product = block_sum(group.second, more_room) / count;
  if (threadIdx.x == 0) args.means[at] = {rstd * plain, rstd * rstd * product};
}

}  // namespace genfast::inline GENFAST_ISA
