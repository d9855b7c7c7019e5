#pragma once
// A barrier of a grid: a primitive moves to csrc/kernels with the first kernel that uses it.
#include "../../csrc/kernels/async.cuh"
#include "../../csrc/kernels/counter.cuh"
#include "../../csrc/kernels/mma.cuh"

#if defined(GENFAST_EMULATE)
#include "../../csrc/emulation/cluster.h"

namespace genfast {

using emulation::grid_sync;

}  // namespace genfast
#else
#include <cooperative_groups.h>

namespace genfast {

__device__ inline void grid_sync() { cooperative_groups::this_grid().sync(); }

}  // namespace genfast
#endif
