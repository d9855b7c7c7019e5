#pragma once
// Launches: what a driver refuses, and the blocks that live at the same time: one, those of a cluster, or all.
#include "shared_memory.h"

namespace emulation {

// What a test makes of the device.
struct Device {
  size_t shared_memory =
      48 << 10;                   // bytes that a block may have: 99 KiB on sm_86 and sm_120, 163 on sm_80, 227 on sm_90
  int capability = 90;            // without clusters below
  unsigned resident_blocks = 16;  // that fit on all multiprocessors together
};
inline Device device;

struct Launch {
  dim3 grid, block;
  size_t shared_bytes = 0;
  dim3 cluster = 1;
  bool cooperative = false;  // all blocks live at the same time
};

struct Warp {
  Barrier barrier;
  alignas(16) char exchange[2][32][32];  // [parity][lane]: what warp primitives pass on
};
struct Cluster {
  Barrier barrier;
  std::vector<Block*> blocks;
};
struct Block {
  dim3 index;
  unsigned rank;  // in its cluster
  Cluster* cluster;
  Barrier barrier;
  Warp warps[32];
  SharedMemory shared;
};

inline dim3 grid_dim, block_dim;
inline bool cooperative;
inline Barrier grid_barrier;

inline size_t volume(dim3 d) { return size_t(d.x) * d.y * d.z; }

// What a driver refuses, or null.
inline const char* refused(const Launch& how) {
  const auto& [grid, block, shared_bytes, cluster, together] = how;
  if (volume(grid) == 0) return "a grid without blocks";
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return "a grid of more blocks than a GPU takes";
  if (volume(block) == 0) return "a block without threads";
  if (volume(block) > 1024 || block.z > 64) return "a block of more threads than a GPU takes";
  if (shared_bytes > device.shared_memory) return "a block with more shared memory than it may have";
  if (volume(cluster) == 0) return "a cluster without blocks";
  if (volume(cluster) > 1 && device.capability < 90) return "a cluster on a device that has none";
  if (volume(cluster) > 8) return "a cluster of more blocks than every GPU takes";
  if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z) return "a cluster that does not divide its grid";
  if (together && volume(grid) > device.resident_blocks) return "a cooperative grid of more blocks than fit";
  return nullptr;
}

inline void entry() {
  (*body)();
  Block& block = *current->block;
  current->done = true, ++progress;
  block.warps[current->linear / 32].barrier.leave();
  block.barrier.leave(), block.cluster->barrier.leave(), grid_barrier.leave();
  if (block.barrier.live == 0 && !block.shared.end()) refusal = "a block that writes beside its shared memory";
  for (;;) yield();
}

inline void start(Block& block, dim3 index, size_t shared_bytes, size_t first_fiber) {
  const unsigned threads = unsigned(volume(block_dim));
  block.index = index, block.barrier = {threads};
  block.shared.piece(nullptr, shared_bytes);
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& f = fibers[first_fiber + i];
    f.block = &block, f.linear = i, f.done = false, f.copies.clear();
    f.thread = dim3(i % block_dim.x, i / block_dim.x % block_dim.y, i / (block_dim.x * block_dim.y));
    prepare(f.context, f.stack.get(), kStack, entry);
    if (i % 32 == 0) block.warps[i / 32].barrier = {std::min(threads - i, 32u)};
  }
}

// Calls visit(index) for every index of a box, x first.
template <class Visit>
inline void each_index(dim3 box, Visit visit) {
  for (unsigned z = 0; z < box.z; ++z)
    for (unsigned y = 0; y < box.y; ++y)
      for (unsigned x = 0; x < box.x; ++x) visit(dim3(x, y, z));
}
inline dim3 operator+(dim3 a, dim3 b) { return dim3(a.x + b.x, a.y + b.y, a.z + b.z); }
inline dim3 operator*(dim3 a, dim3 b) { return dim3(a.x * b.x, a.y * b.y, a.z * b.z); }
inline dim3 operator/(dim3 a, dim3 b) { return dim3(a.x / b.x, a.y / b.y, a.z / b.z); }

inline void launch(const Launch& how, const std::function<void()>& run) {
  refusal = refused(how);
  if (refusal) return;
  grid_dim = how.grid, block_dim = how.block, cooperative = how.cooperative, body = &run;
  const dim3 box = cooperative ? how.grid : how.cluster;  // of blocks that live at the same time
  const size_t threads = volume(how.block), of_cluster = volume(how.cluster);
  std::vector<Block> blocks(volume(box));
  std::vector<Cluster> clusters(blocks.size() / of_cluster);
  while (fibers.size() < threads * blocks.size()) fibers.emplace_back();
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].rank = unsigned(i % of_cluster), blocks[i].cluster = &clusters[i / of_cluster];
    blocks[i].cluster->blocks.push_back(&blocks[i]);
  }
  each_index(how.grid / box, [&](dim3 step) {
    if (refusal) return;
    size_t next = 0;
    each_index(box / how.cluster, [&](dim3 at) {
      clusters[next / of_cluster].barrier = {unsigned(threads * of_cluster)};
      each_index(how.cluster, [&](dim3 in_cluster) {
        start(blocks[next], step * box + at * how.cluster + in_cluster, how.shared_bytes, next * threads);
        ++next;
      });
    });
    grid_barrier = {unsigned(threads * blocks.size())};
    run_fibers(threads * blocks.size());
  });
  if (refusal) fibers.clear();  // some may have been left in the middle
}

}  // namespace emulation
