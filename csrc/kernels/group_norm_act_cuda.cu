#include "group_norm_act_groups_backward.cuh"
#include "group_norm_act_halves.cuh"
#include "group_norm_act_slabs.cuh"
#include "group_norm_act_slabs_backward.cuh"

namespace genfast::cuda {

// A grid has at most so many samples; more are told apart by launches.
constexpr int64_t kMostSamples = 65535;

template <class Args, class Split>
using Kernel = void (*)(Args, Split, int64_t, Stage);

// A block a part; `units`: the groups or slabs of a sample.
template <class Args, class Split>
static const char* launch_parts(Kernel<Args, Split> kernel, const Args& args, const Split& split, int64_t units,
                                size_t shared_bytes, Stage stage, Stream stream) {
  const int64_t batch = args.norm.maps.batch;
  for (int64_t first = 0; first < batch; first += kMostSamples) {
    Launch how;
    how.grid = dim3(unsigned(units * split.parts), 1, unsigned(std::min(batch - first, kMostSamples)));
    how.block = dim3(split.threads), how.shared_bytes = shared_bytes;
    if (stage == Stage::whole) how.cluster = dim3(split.parts);
    if (const char* error = launch(kernel, how, stream, args, split, first, stage)) return error;
  }
  return nullptr;
}

// In one launch where a block or a cluster holds all that is summed up; else in two that read alike, and between them
// the sums of all parts are put together.
template <class Args, class Split>
static const char* run(Kernel<Args, Split> kernel, const Args& args, const Split& split, int64_t units,
                       size_t shared_bytes, Stream stream) {
  if (split.parts == 1 || (split.parts <= kMostParts && has_clusters()))
    return launch_parts(kernel, args, split, units, shared_bytes, Stage::whole, stream);
  if (const char* error = launch_parts(kernel, args, split, units, shared_bytes, Stage::sums, stream)) return error;
  const Launch how{dim3(unsigned(args.norm.maps.batch * args.norm.groups)), dim3(kThreads)};
  if (const char* error = launch<Args, Split>(together_kernel<Split>, how, stream, args, split)) return error;
  Args rest = args;
  if (rest.norm.sum) rest.norm.x = rest.norm.sum, rest.norm.add = {}, rest.norm.like = nullptr;
  return launch_parts(kernel, rest, split, units, shared_bytes, Stage::rest, stream);
}

template <class T>
static const char* norm(const GroupNormActArgs& args, Stream stream) {
  const GroupNorm& p = args.norm;
  const Cut cut = cut_of(p, false);
  const int64_t slabs = cut.slabs ? up(p.maps.channels, cut.slab.slab) : 0;
  if (cut.slabs && cut.block.halves) {
    constexpr Block small = kHalvesBlocks[0], large = kHalvesBlocks[1];
    return run(cut.block.threads == small.threads ? halves_kernel<T, small.threads, small.packs, 2>
                                                  : halves_kernel<T, large.threads, large.packs, 1>,
               args, cut.slab, slabs, halves_bytes(cut.slab), stream);
  }
  if (cut.slabs) {
    constexpr Block small = kSlabBlocks[0], large = kSlabBlocks[1];
    return run(cut.block.threads == small.threads ? slab_kernel<T, small.threads, small.packs, 2>
                                                  : slab_kernel<T, large.threads, large.packs, 1>,
               args, cut.slab, slabs, slab_bytes(cut.slab, p.wide), stream);
  }
  return run(cut.wide > 1 ? group_kernel<T, true> : group_kernel<T, false>, args, cut.group, p.groups,
             sizeof(Pair) * cut.group.channels, stream);
}

template <class T>
static const char* norm(const GroupNormActBackwardArgs& args, Stream stream) {
  const GroupNorm& p = args.norm;
  const Cut cut = cut_of(p, true);
  if (cut.slabs)
    return run(slab_backward_kernel<T>, args, cut.slab, up(p.maps.channels, cut.slab.slab),
               slab_backward_bytes(cut.slab, p.wide), stream);
  return run(cut.wide > 1 ? group_backward_kernel<T, true> : group_backward_kernel<T, false>, args, cut.group, p.groups,
             group_backward_bytes(cut.group), stream);
}

const char* group_norm_act(const GroupNormActArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.norm.dtype, [&](auto type) { error = norm<decltype(type)>(p, stream); });
  return error;
}

const char* group_norm_act_backward(const GroupNormActBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.norm.dtype, [&](auto type) { error = norm<decltype(type)>(p, stream); });
  return error;
}

}  // namespace genfast::cuda
