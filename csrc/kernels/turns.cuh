#pragma once
// What no cluster holds is read twice in one launch: blocks sum the parts of a unit up, and `ahead` units later, when
// it is still in the cache, others read the parts again and write.  Blocks begin in the order of their indices, on
// which scans by look-back rely too (Merrill and Garland 2016, "Single-pass parallel prefix scan with decoupled
// look-back"): a block waits only for blocks before it, and those that sum wait for none.
#include "../math/lane.h"
#include "counter.cuh"
#include "types.h"

namespace genfast::inline GENFAST_ISA {

// What a block does with its part: all, where a block or a cluster holds a unit; the sums; what follows from them.
enum class Stage : int { whole, sums, rest, none };

// Of a launch that reads everything once: a block a part.
struct Once {
  static constexpr bool kTwice = false;
  unsigned parts;  // of a unit
  int64_t first_sample;
};
// Of one that reads everything twice.
struct Twice {
  static constexpr bool kTwice = true;
  unsigned parts, per_sample, units, ahead;  // units of all samples
  unsigned* counters;                        // of each unit, 0 at first

  int64_t blocks() const { return (int64_t(units) + ahead) * 2 * parts; }
};

// Where a block is, and in which stage.
struct Here {
  int64_t n;
  unsigned unit;  // of its sample
  int part;
  Stage stage;
};
GENFAST_HD Here here_in(const Once& launch) {
  const unsigned unit = launch.parts > 1 ? blockIdx.x / launch.parts : blockIdx.x;
  return {launch.first_sample + blockIdx.z, unit, int(blockIdx.x - unit * launch.parts), Stage::whole};
}
// Found again whenever it is asked for, so that registers need not hold it: the compiler is not to know that it is the
// same.
GENFAST_HD Here here_in(const Twice& launch) {
#if defined(__CUDA_ARCH__)
  unsigned block;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
#else
  const unsigned block = blockIdx.x;
#endif
  const unsigned round = block / (2 * launch.parts), i = block - round * 2 * launch.parts;
  const bool again = i >= launch.parts;
  const unsigned at = round - (again ? launch.ahead : 0), n = at / launch.per_sample;
  const Stage stage = at >= launch.units ? Stage::none : again ? Stage::rest : Stage::sums;
  return {n, at - n * launch.per_sample, int(again ? i - launch.parts : i), stage};
}

__device__ inline unsigned* counter_here(const Twice& launch) {
  const Here here = here_in(launch);
  return launch.counters + here.n * launch.per_sample + here.unit;
}
// A block has written the sums of its part; the last one of a unit puts those of all parts together.
template <class PutTogether>
__device__ void tell(const Twice& launch, const PutTogether& put_together) {
  GENFAST_SHARED(unsigned, before);
  __syncthreads();
  if (threadIdx.x == 0) before = arrive(counter_here(launch));
  __syncthreads();
  if (before + 1 != launch.parts) return;
  put_together(here_in(launch));
  __syncthreads();
  if (threadIdx.x == 0) arrive(counter_here(launch));
}
// What they made can be read.
__device__ inline void listen(const Twice& launch) {
  if (threadIdx.x == 0) await(counter_here(launch), launch.parts + 1);
  __syncthreads();
}

}  // namespace genfast::inline GENFAST_ISA
