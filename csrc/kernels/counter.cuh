#pragma once
// Counters by which blocks of a grid wait for each other: on a GPU by PTX, on the host by csrc/emulation.
#include "cluster.cuh"

#if defined(GENFAST_EMULATE)
namespace genfast {

using emulation::arrive;
using emulation::await;

}  // namespace genfast
#else
namespace genfast {

// A thread tells the threads of other blocks that what its block wrote can be read, and learns how many had told
// before.
__device__ inline unsigned arrive(unsigned* counter) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}
// Waits for as many.
__device__ inline void await(const unsigned* counter, unsigned least) {
  unsigned seen;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
  } while (seen < least);
}

}  // namespace genfast
#endif
