#pragma once
// What blocks of a cluster, of a grid and of a team tell each other, and products of matrices: on a GPU by PTX, on the
// host by csrc/emulation.  A primitive moves to csrc/kernels with the first kernel that uses it.
#include "../../csrc/kernels/async.cuh"

#if defined(GENFAST_EMULATE)
#include "../../csrc/emulation/cluster.h"
#include "../../csrc/emulation/mma.h"

namespace genfast {

using emulation::await;
using emulation::cluster_arrive;
using emulation::cluster_blocks;
using emulation::cluster_rank;
using emulation::cluster_wait;
using emulation::grid_sync;
using emulation::Launch;
using emulation::mma_bf16;
using emulation::mma_f16;
using emulation::shared_of;
using emulation::signal;

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  emulation::launch(how, [=] { kernel(arguments...); });
  return launch_error();
}

}  // namespace genfast
#else
#include <cooperative_groups.h>

namespace genfast {

struct Launch {
  dim3 grid, block;
  size_t shared_bytes = 0;
  dim3 cluster = 1;
  bool cooperative = false;  // all blocks live at the same time
};

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Launch& how, Arguments... arguments) {
  allow_shared(kernel, how.shared_bytes);
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = how.grid, config.blockDim = how.block, config.dynamicSmemBytes = how.shared_bytes;
  config.attrs = attributes;
  if (how.cluster.x * how.cluster.y * how.cluster.z > 1) {
    cudaLaunchAttribute& it = attributes[config.numAttrs++];
    it.id = cudaLaunchAttributeClusterDimension;
    it.val.clusterDim.x = how.cluster.x, it.val.clusterDim.y = how.cluster.y, it.val.clusterDim.z = how.cluster.z;
  }
  if (how.cooperative) {
    cudaLaunchAttribute& it = attributes[config.numAttrs++];
    it.id = cudaLaunchAttributeCooperative, it.val.cooperative = 1;
  }
  cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
  return launch_error();
}

// ---- a cluster; of one block where the architecture has none ----
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define GENFAST_CLUSTER(of_cluster, otherwise) of_cluster
#else
#define GENFAST_CLUSTER(of_cluster, otherwise) otherwise
#endif

__device__ inline unsigned cluster_rank() {
  unsigned rank = 0;
  GENFAST_CLUSTER(asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank)), );
  return rank;
}
__device__ inline unsigned cluster_blocks() {
  unsigned blocks = 1;
  GENFAST_CLUSTER(asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks)), );
  return blocks;
}
__device__ inline void cluster_arrive() {
  GENFAST_CLUSTER(asm volatile("barrier.cluster.arrive.release.aligned;" :: : "memory"), );
}
__device__ inline void cluster_wait() {
  GENFAST_CLUSTER(asm volatile("barrier.cluster.wait.acquire.aligned;" :: : "memory"), __syncthreads());
}
// What block `rank` of the cluster has where this block has `mine`, in shared memory.
template <class T>
__device__ inline T* shared_of(T* mine, unsigned rank) {
  T* there = mine;
  GENFAST_CLUSTER(asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(mine), "r"(rank)), (void)rank);
  return there;
}

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
#undef GENFAST_CLUSTER

}  // namespace genfast
#endif

namespace genfast {

__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

}  // namespace genfast
