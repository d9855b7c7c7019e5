#pragma once
// Blocks of a cluster, which read each other's shared memory: on a GPU by PTX, on the host by csrc/emulation.
#include "launch.cuh"
#include "types.h"

#if defined(GENFAST_EMULATE)

namespace genfast {

using emulation::cluster_arrive;
using emulation::cluster_blocks;
using emulation::cluster_rank;
using emulation::cluster_wait;
using emulation::Launch;
using emulation::shared_of;

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Launch& how, Stream, Arguments... arguments) {
  emulation::launch(how, [=] { kernel(arguments...); });
  return launch_error();
}

}  // namespace genfast
#else

namespace genfast {

struct Launch {
  dim3 grid, block;
  size_t shared_bytes = 0;
  dim3 cluster = 1;
  bool cooperative = false;  // all blocks live at the same time
};

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Launch& how, Stream stream, Arguments... arguments) {
  allow_shared(kernel, how.shared_bytes);
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = how.grid, config.blockDim = how.block, config.dynamicSmemBytes = how.shared_bytes;
  config.stream = stream, config.attrs = attributes;
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
#undef GENFAST_CLUSTER

}  // namespace genfast
#endif

namespace genfast {

__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

}  // namespace genfast
