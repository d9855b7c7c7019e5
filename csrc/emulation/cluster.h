#pragma once
// Clusters, cooperative grids, and teams of blocks that wait for each other at a counter.
#include "warp.h"

namespace emulation {

inline unsigned cluster_rank() { return current->block->rank; }
inline unsigned cluster_blocks() { return unsigned(current->block->cluster->blocks.size()); }
inline void cluster_arrive() { current->cluster_phase = current->block->cluster->barrier.arrive(); }
inline void cluster_wait() { current->block->cluster->barrier.wait(current->cluster_phase); }

// What block `rank` of the cluster has where this block has `mine`, in shared memory.
template <class T>
inline T* shared_of(T* mine, unsigned rank) {
  const SharedMemory::Piece* piece = current->block->shared.find(mine, sizeof(T));
  if (!piece) fail("the address in another block of what is not in shared memory");
  if (rank >= cluster_blocks()) fail("shared memory of a block that the cluster does not have");
  Block& other = *current->block->cluster->blocks[rank];
  if (other.barrier.live == 0) fail("shared memory of a block that has ended");
  const size_t offset = reinterpret_cast<const char*>(mine) - piece->begin();
  return reinterpret_cast<T*>(other.shared.piece(piece->key, piece->bytes).begin() + offset);
}

inline void grid_sync() {
  if (!cooperative) fail("a barrier of the grid in a launch that is not cooperative");
  grid_barrier.sync();
}

// A block tells the others that it is here, and learns how many were; waits for as many.
inline unsigned arrive(unsigned* counter) { return (*counter)++; }
inline void await(const unsigned* counter, unsigned least) {
  wait_until([=] { return *static_cast<const volatile unsigned*>(counter) >= least; });
}

}  // namespace emulation
