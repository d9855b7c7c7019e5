#pragma once
// How the CUDA twins cut a sample into the parts that blocks hold: by its shape, never by the batch.
#include <algorithm>
#include <numeric>

#include "group_norm_act.h"

namespace genfast::inline GENFAST_ISA {

inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// So many parts are the blocks of a cluster.
constexpr int kMostParts = 8;

// i / d is the upper half of 2 i times this, for i d below 2^31.
inline unsigned inverse_of(int64_t d) { return unsigned(up(int64_t(1) << 31, d)); }
GENFAST_HD int divided(int i, unsigned inverse) {
#if defined(__CUDA_ARCH__)
  return int(__umulhi(2u * unsigned(i), inverse));
#else
  return int(uint64_t(2u * unsigned(i)) * inverse >> 32);
#endif
}

// The threads of a block, and the packs that each holds in registers; how often as many are loaded, all but the last
// of which wait in shared memory; of slabs, whether their warps have sums of halves of packs.
struct Block {
  int threads, held, loads = 1;
  bool halves = false;

  int packs() const { return held * loads; }
  // Packs of 16 bytes, of two tensors, and what else there is.
  bool fits(size_t shared_memory) const {
    return loads == 1 || size_t(loads - 1) * held * threads * 32 + (32 << 10) <= shared_memory;
  }
};

// Group by group: a part is some whole channels of a group, or of a large channel a slice.
struct GroupSplit {
  int64_t per_channel;                         // packs
  int channels, slices, per_slice, parts = 0;  // of a part; of a channel; packs; of a group
  int threads, loads;                          // of a block
  unsigned inverse;                            // of per_slice

  GroupSplit() = default;
  GroupSplit(const GroupNorm& p, Block block) : per_channel(p.maps.pixels / p.wide), loads(block.loads) {
    constexpr int64_t kMostChannels = 2048;  // there is a table of them
    const int64_t most = int64_t(block.threads) * block.packs();
    slices = int(up(per_channel, most)), per_slice = int(up(per_channel, slices));
    const int64_t fitting = slices > 1 ? 1 : std::min(most / per_slice, kMostChannels);
    channels = int(up(p.per_group, up(p.per_group, fitting)));
    parts = int(up(p.per_group, channels)) * slices;
    threads = int(up(up(int64_t(channels) * per_slice, block.packs()), 32) * 32);
    inverse = inverse_of(per_slice);
    if (loads > 1 && !(p.wide > 1 && even(block.packs()))) parts = 0;
  }
  // Whether a warp, whose threads have so many packs, has those of one channel only.
  GENFAST_HD bool even(int packs) const { return channels == 1 || per_slice % (32 * packs) == 0; }
  // Of a unit, a group.
  GENFAST_HD int64_t first_group(unsigned unit) const { return unit; }
  GENFAST_HD int groups_of(const GroupNorm&, int64_t) const { return 1; }
  // Where, in scratch, of a sample, the sums of a part of a group are; and of a piece of a channel.
  GENFAST_HD int64_t place_of_group(const GroupNorm&, int64_t group, int part) const { return group * parts + part; }
  GENFAST_HD int pieces() const { return slices; }
  GENFAST_HD int64_t place_of_channel(const GroupNorm&, int64_t channel, int piece) const {
    return channel * slices + piece;
  }
};

// Channels-last: a part is some pixels of a slab, of whole groups and whole packs.
struct SlabSplit {
  struct Pixels {
    int count, rounds, rest;  // rows takes all of them so often, and then so many
    float weight, each;       // values of a group, and what one of these counts
  };
  int slab, columns, rows, parts = 0;      // channels; packs that hold them; pixels at a time
  Pixels of_part, of_last;                 // of every part but the last; of that
  int threads, loads, groups;              // of a block; of a slab
  int some;                                // sums of a channel that a block begins with
  int group_columns;                       // of a group; 0: a half of one, or no whole number of them
  int per_warp, sums;                      // rows of a warp; columns of all warps
  float of_all;                            // what a value counts in its group
  unsigned of_slab, of_columns, of_group;  // inverses of slab, columns, and channels of a group

  SlabSplit() = default;
  SlabSplit(const GroupNorm& p, Block block) : threads(block.threads), loads(block.loads) {
    constexpr int64_t kMostChannels = 1024, kLeastBytes = 64;  // of a slab; that a pixel of a slab takes
    const int64_t unit = std::lcm(p.per_group, int64_t(p.wide));
    int64_t width = unit * up(kLeastBytes * p.wide / 16, unit);
    width = std::min(width, p.maps.channels);
    const int64_t most = std::min(block.halves ? 16 * p.wide : kMostChannels, p.maps.channels);
    if (width > most || width / p.wide > threads) return;
    const auto holds = [&](int64_t channels) { return threads / (channels / p.wide) * block.packs(); };
    while (2 * width <= most && 2 * width / p.wide <= threads && holds(2 * width) >= p.maps.pixels) width *= 2;
    slab = int(width), columns = int(width / p.wide), rows = threads / columns;
    parts = int(up(p.maps.pixels, holds(width)));
    const auto pixels_of = [&](int64_t count) {
      const float weight = float(count * p.per_group);
      return Pixels{int(count), int(count / rows), int(count % rows), weight, 1.0f / weight};
    };
    const int64_t per_part = up(p.maps.pixels, parts);
    of_part = pixels_of(per_part), of_last = pixels_of(p.maps.pixels - (parts - 1) * per_part);
    groups = int(width / p.per_group), some = std::max(threads / slab, 1);
    group_columns = p.per_group % p.wide ? 0 : int(p.per_group / p.wide);
    per_warp = 32 / columns, sums = threads / 32 * columns, of_all = 1.0f / float(p.maps.pixels * p.per_group);
    const bool fits = (columns & (columns - 1)) == 0 && (group_columns || 2 * p.per_group == p.wide);
    if (block.halves && !(fits && (parts > kMostParts || parts * columns <= 32))) parts = 0;
    if (loads > 1 && slab > 512) parts = 0;  // shared memory does not suffice
    of_slab = inverse_of(slab), of_columns = inverse_of(columns), of_group = inverse_of(p.per_group);
  }
  // Of a unit, a slab.
  GENFAST_HD int64_t first_group(unsigned unit) const { return int64_t(unit) * groups; }
  GENFAST_HD int groups_of(const GroupNorm& p, int64_t first) const {
    return int(std::min(p.groups - first, int64_t(groups)));
  }
  GENFAST_HD const Pixels& pixels(int part) const { return part + 1 < parts ? of_part : of_last; }
  GENFAST_HD int64_t place_of_group(const GroupNorm& p, int64_t group, int part) const {
    return part * p.groups + group;
  }
  GENFAST_HD int pieces() const { return parts; }
  GENFAST_HD int64_t place_of_channel(const GroupNorm& p, int64_t channel, int piece) const {
    return piece * p.maps.channels + channel;
  }
};

struct Cut {
  bool slabs = false, once = false;  // once: a block or a cluster holds a unit
  Block block;
  GroupSplit group;
  SlabSplit slab;
  int wide = 1;
  int parts() const { return slabs ? slab.parts : group.parts; }
  int64_t units(const GroupNorm& p) const { return slabs ? up(p.maps.channels, slab.slab) : p.groups; }
  int pieces() const { return slabs ? slab.pieces() : group.pieces(); }
};

// Clusters of eight blocks are there on sm_90 and sm_100, which the 227 KiB of a block tell.
inline bool has_clusters(size_t shared_memory) { return shared_memory > (200 << 10); }

// The first of the blocks that alone, or as a cluster, hold all there is; else the first of all, which go twice.
template <class Split, size_t count>
bool choose(const GroupNorm& p, const Block (&blocks)[count], size_t shared_memory, Split& split, Block& chosen) {
  const bool clusters = has_clusters(shared_memory);  // a cluster that holds all in registers is quicker than one block
  for (int most : {1, clusters ? kMostParts : 1})
    for (Block block : blocks) {
      if ((clusters && most == 1 && block.loads > 1) || !block.fits(shared_memory)) continue;
      const Split found(p, block);
      if (found.parts > 0 && found.parts <= most) return split = found, chosen = block, true;
    }
  split = Split(p, chosen = blocks[0]);
  return false;
}

constexpr Block kGroupBlocks[] = {{512, 8}, {1024, 8}}, kSlabBlocks[] = {{256, 8}, {512, 12}};
constexpr Block kHalvesBlocks[] = {{256, 16, 1, true}, {512, 16, 1, true}};
constexpr Block kBlocksBackward[] = {{256, 4}, {256, 4, 2}, {256, 4, 4}, {512, 4, 4}};

// `shared_memory`: that a block may have on the device.
inline Cut cut_of(const GroupNorm& p, bool backward, size_t shared_memory) {
  Cut cut;
  cut.wide = p.maps.last ? 1 : p.wide;
  if (p.maps.last && p.wide > 1) {
    const auto slabs = [&](const auto& blocks) {
      cut.once = choose(p, blocks, shared_memory, cut.slab, cut.block);
      return cut.slab.parts > 0;
    };
    cut.slabs = backward ? slabs(kBlocksBackward) : slabs(kHalvesBlocks) || slabs(kSlabBlocks);
    if (cut.slabs) return cut;
  }
  GroupNorm alike = p;
  alike.wide = cut.wide;
  const auto groups = [&](const auto& blocks) {
    cut.once = choose(alike, blocks, shared_memory, cut.group, cut.block);
  };
  backward ? groups(kBlocksBackward) : groups(kGroupBlocks);
  return cut;
}

}  // namespace genfast::inline GENFAST_ISA
