#pragma once
#include <initializer_list>

#include "../math/activation.h"
#include "isa.h"
#include "types.h"

namespace genfast {

// A batch of `channels` maps of `pixels` values each, in memory [batch, channels, pixels] or, `last`, [batch, pixels,
// channels].
struct Maps {
  int64_t batch, channels, pixels;
  bool last;
};

// x is what is given plus what is added to it, rounded to its type: u = a (x - mean) rstd + b with a = weight (1 +
// scale), b = bias (1 + scale) + shift; y = act(u).
struct GroupNorm {
  const void* x;  // the maps, of `dtype`; backward: with what was added
  DType dtype;
  Maps maps;
  const void* like;           // added to x: maps as x, or null
  Small add;                  // or a number for each channel, of a sample or of all
  void* sum;                  // as x, what they make together: on a GPU null where it is not wanted
  int64_t groups, per_group;  // channels of each: a division that no loop repeats
  Small weight, bias;         // of all samples: 1 and 0 where there is none; backward: float32, as scale and shift
  Small scale, shift;         // of each sample: 0 where there is none
  float *mean, *rstd;         // [batch, groups]
  float* sums;                // [batch, 2, channels]: scratch; backward: of dL/du and dL/du x_hat
  float* partial;             // scratch of the CUDA twin; see group_norm_act_split.h
  unsigned* counters;         // and, of each group or slab, the parts that are summed up
  int activation;             // an Activation
  int wide;                   // CUDA: values of a pack, 16 bytes where maps allow it, else 1
};

struct GroupNormActArgs {
  GroupNorm norm;
  void* y;  // as x
  float eps;
};

// Over a group, the means of dL/dx_hat, times rstd, and of dL/dx_hat x_hat, times rstd^2.
struct alignas(8) GroupMeans {
  float plain, times;
};

struct GroupNormActBackwardArgs {
  GroupNorm norm;
  const void* dy;     // as x
  const void* more;   // as x, added to dx; or null
  void* dx;           // as x
  GroupMeans* means;  // [batch, groups] scratch
};

// Channels-last sums are taken over units of 32 pixels in order, then over the units in order; the others in the order
// of math/sum.h.
constexpr int64_t kPixels = 32;

// The fewest groups whose channels fill registers.
inline int64_t groups_of_registers(const GroupNorm& p) {
  for (int64_t width : {64, 16})
    for (int64_t groups = 1; groups <= p.groups; ++groups)
      if (groups * p.per_group % width == 0) return groups;
  return p.groups;
}

// The CPU's unit of work is a strip of whole groups of one sample, summed, then mapped: long enough to stream, short
// enough to be in the cache still, and no less than eight in all where there is that much.
inline int64_t groups_per_strip(const GroupNorm& p) {
  const int64_t least = p.maps.last ? groups_of_registers(p) : 1, most = int64_t(1) << (p.maps.last ? 17 : 15);
  const int64_t group = p.per_group * p.maps.pixels, share = p.maps.batch * p.groups * group / 8;
  const int64_t fitting = group > 0 ? (share < most ? share : most) / group / least * least : 0;
  return fitting < least ? least : fitting < p.groups ? fitting : p.groups;
}
inline int64_t strips(const GroupNorm& p) {
  const int64_t per_strip = groups_per_strip(p);
  return (p.groups + per_strip - 1) / per_strip;
}
inline Work strips_of_work(const GroupNorm& p) {
  const int64_t strip = p.per_group * groups_per_strip(p) * p.maps.pixels;
  return {p.maps.batch * strips(p), kGrain / (strip + 1)};
}
inline Work work(const GroupNormActArgs& p) { return strips_of_work(p.norm); }
inline Work work(const GroupNormActBackwardArgs& p) { return strips_of_work(p.norm); }

GENFAST_TWINS(group_norm_act, GroupNormActArgs)
GENFAST_TWINS(group_norm_act_backward, GroupNormActBackwardArgs)

}  // namespace genfast
