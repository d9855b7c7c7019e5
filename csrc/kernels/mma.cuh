#pragma once
// Products of matrices by a warp: on a GPU by tensor cores, on the host by csrc/emulation/mma.h, which says who holds
// which number.
#include "launch.cuh"

namespace genfast {

#if defined(GENFAST_EMULATE)
using emulation::load_matrices;
using emulation::mma_bf16;
using emulation::mma_f16;
#else
// sums += A B, of 16 x 16 and 16 x 8 numbers.
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

// Four 8 x 8 matrices from shared memory: lane l says where row l % 8 of matrix l / 8 lies.
__device__ inline void load_matrices(unsigned (&to)[4], const void* row) {
  const unsigned at = unsigned(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}
#endif

}  // namespace genfast
