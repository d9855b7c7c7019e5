#pragma once
// What the parts of a group tell each other: moments, which are put together as if all values had been at hand.
#include "group_norm_act_body.h"
#include "group_norm_act_split.h"
#include "held.cuh"
#include "inverse_sqrt.cuh"
#include "turns.cuh"

namespace genfast::inline GENFAST_ISA {

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
template <class T, class Function>
GENFAST_HD void with_activation_of(const GroupNorm& p, const Function& f) {
  with_activation<T>(Activation(p.activation), f);
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

// What waits in shared memory: of each load but the last, the packs of x and of du that a thread had.
template <class Word, int packs>
struct Waiting {
  Word* room;

  __device__ void put(int load, const Word (&x)[packs], const Word (&du)[packs]) const {
    Word* to = room + load * 2 * packs * int(blockDim.x) + threadIdx.x;
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) to[2 * k * int(blockDim.x)] = x[k], to[(2 * k + 1) * int(blockDim.x)] = du[k];
  }
  __device__ void get(int load, Word (&x)[packs], Word (&du)[packs]) const {
    const Word* from = room + load * 2 * packs * int(blockDim.x) + threadIdx.x;
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) x[k] = from[2 * k * int(blockDim.x)], du[k] = from[(2 * k + 1) * int(blockDim.x)];
  }
};
template <class Split>
size_t waiting_bytes(const Split& split, int packs) {
  return sizeof(uint4) * 2 * (split.loads - 1) * packs * split.threads;
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

// ---- by the last block of a unit, from what all wrote ----
// A warp a group.
template <class Split>
__device__ void put_together(const GroupNormActArgs& args, const Split& split, const Here& here) {
  const GroupNorm& p = args.norm;
  const int64_t n = here.n, first = split.first_group(here.unit), end = first + split.groups_of(p, first);
  const Moments* from = reinterpret_cast<const Moments*>(p.partial) + n * p.groups * split.parts;
  const float count = float(p.per_group * p.maps.pixels);
  const int lane = int(threadIdx.x % 32), warps = int(blockDim.x / 32);
  for (int64_t group = first + threadIdx.x / 32; group < end; group += warps) {
    float sum = 0.0f, squares = 0.0f;
    for (int q = lane; q < split.parts; q += 32) {
      const Moments part = from[split.place_of_group(p, group, q)];
      sum = fma_(part.count, part.mean, sum);
    }
    const float mean = warp_sum(sum) / count;
    for (int q = lane; q < split.parts; q += 32) {
      const Moments part = from[split.place_of_group(p, group, q)];
      const float apart = part.mean - mean;
      squares = squares + fma_(part.count * apart, apart, part.squares);
    }
    const float variance = warp_sum(squares) / count;
    const int64_t at = n * p.groups + group;
    if (lane == 0) p.mean[at] = mean, p.rstd[at] = 1.0f / sqrtf(variance + args.eps);
  }
}

// A warp a channel of a group.
template <class Split>
__device__ void put_together(const GroupNormActBackwardArgs& args, const Split& split, const Here& here) {
  GENFAST_SHARED(float[32], room);
  GENFAST_SHARED(float[32], more_room);
  const GroupNorm& p = args.norm;
  const int64_t n = here.n, first = split.first_group(here.unit), end = first + split.groups_of(p, first);
  const int pieces = split.pieces(), lane = int(threadIdx.x % 32), warps = int(blockDim.x / 32);
  const Pair* from = reinterpret_cast<const Pair*>(p.partial) + n * p.maps.channels * pieces;
  float* to = p.sums + 2 * n * p.maps.channels;
  const float count = float(p.per_group * p.maps.pixels);
  for (int64_t group = first; group < end; ++group) {
    const int64_t at = n * p.groups + group, begin = group * p.per_group;
    Pair of_group{0.0f, 0.0f};
    for (int64_t c = begin + threadIdx.x / 32; c < begin + p.per_group; c += warps) {
      Pair sums{0.0f, 0.0f};
      for (int q = lane; q < pieces; q += 32) {
        const Pair piece = from[split.place_of_channel(p, c, q)];
        sums = {sums.first + piece.first, sums.second + piece.second};
      }
      sums = warp_sum(sums);
      if (lane != 0) continue;
      to[c] = sums.first, to[p.maps.channels + c] = sums.second;
      const float slope = slope_of(p, n, c);
      of_group = {fma_(slope, sums.first, of_group.first), fma_(slope, sums.second, of_group.second)};
    }
    const float rstd = p.rstd[at];
    const float plain = block_sum(of_group.first, room), product = block_sum(of_group.second, more_room);
    if (threadIdx.x == 0) args.means[at] = {rstd * (plain / count), rstd * rstd * (product / count)};
    __syncthreads();  // the rooms are free again
  }
}

}  // namespace genfast::inline GENFAST_ISA
