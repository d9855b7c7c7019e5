#pragma once
// What blocks of a grid and of a team tell each other, asynchronous copies and products of matrices: on a
// GPU by PTX, on the host by csrc/emulation.  A primitive moves to csrc/kernels with the first kernel that uses it.
#include "../../csrc/kernels/cluster.cuh"

#if defined(GENFAST_EMULATE)
#include "../../csrc/emulation/async.h"
#include "../../csrc/emulation/mma.h"

namespace genfast {

using emulation::async_commit;
using emulation::async_copy;
using emulation::async_wait;
using emulation::await;
using emulation::grid_sync;
using emulation::mma_bf16;
using emulation::mma_f16;
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

// ---- copies of 16 bytes from global to shared memory ----
__device__ inline void async_copy(void* to, const void* from) {
  const unsigned at = unsigned(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}
__device__ inline void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>
__device__ inline void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- sums += A B, of 16 x 16 and 16 x 8 numbers, by a warp; csrc/emulation/mma.h says who holds which ----
#define GENFAST_MMA(type)                                                                               \
  __device__ inline void mma_##type(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #type "." #type                               \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                 \
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                   \
  }
GENFAST_MMA(bf16)
GENFAST_MMA(f16)
#undef GENFAST_MMA

}  // namespace genfast
#endif
