#pragma once
// What blocks of a grid and of a team tell each other: on a GPU by PTX, on the host by csrc/emulation.  A primitive
// moves to csrc/kernels with the first kernel that uses it.
#include "../../csrc/kernels/async.cuh"
#include "../../csrc/kernels/cluster.cuh"
#include "../../csrc/kernels/mma.cuh"

#if defined(GENFAST_EMULATE)
#include "../../csrc/emulation/cluster.h"

namespace genfast {

using emulation::await;
using emulation::grid_sync;
using emulation::signal;

}  // namespace genfast
#else
#include <cooperative_groups.h>

namespace genfast {

// ---- a grid, a team ----
__device__ inline void grid_sync() { cooperative_groups::this_grid().sync(); }

// A thread tells the threads of other blocks that what it wrote can be read; one waits for as many.
__device__ inline void signal(unsigned* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
__device__ inline void await(const unsigned* counter, unsigned least) {
  unsigned seen;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
  } while (seen < least);
}

}  // namespace genfast
#endif
