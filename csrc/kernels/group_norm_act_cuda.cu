#include "group_norm_act_groups_backward.cuh"
#include "group_norm_act_halves.cuh"
#include "group_norm_act_slabs.cuh"
#include "group_norm_act_slabs_backward.cuh"

namespace genfast::cuda {

// A grid has at most so many samples; more are told apart by launches.
constexpr int64_t kMostSamples = 65535;

// A block a part: where a block or a cluster holds a unit, the groups or a slab of a sample, all of it is read once.
template <class Args, class Split>
static const char* run_once(void (*kernel)(Args, Split, Once), const Args& args, const Split& split, int64_t units,
                            size_t shared_bytes, Stream stream) {
  const int64_t batch = args.norm.maps.batch;
  Launch how;
  how.block = dim3(split.threads), how.shared_bytes = shared_bytes, how.cluster = dim3(split.parts);
  for (int64_t first = 0; first < batch; first += kMostSamples) {
    how.grid = dim3(unsigned(units * split.parts), 1, unsigned(std::min(batch - first, kMostSamples)));
    const Once once{unsigned(split.parts), first};
    if (const char* error = launch(kernel, how, stream, args, split, once)) return error;
  }
  return nullptr;
}

// Else twice, and so many units ahead are summed up that a block that reads again need not wait.
template <class Args, class Split>
static const char* run_twice(void (*kernel)(Args, Split, Twice), const Args& args, const Split& split, int64_t units,
                             size_t shared_bytes, Stream stream) {
  const int64_t parts = split.parts, resident = resident_blocks(kernel, split.threads, shared_bytes);
  const Twice twice{unsigned(parts), unsigned(units), unsigned(args.norm.maps.batch * units),
                    unsigned(up(resident, 2 * parts)), args.norm.counters};
  if (const char* error = zero(twice.counters, twice.units * sizeof(unsigned), stream)) return error;
  const Launch how{dim3(unsigned(twice.blocks())), dim3(split.threads), shared_bytes};
  return launch(kernel, how, stream, args, split, twice);
}

template <class T>
static const char* norm(const GroupNormActArgs& args, Stream stream) {
  const GroupNorm& p = args.norm;
  const Cut cut = cut_of(p, false, shared_memory());
  const int64_t units = cut.units(p);
  if (cut.slabs && cut.block.halves) {
    constexpr Block small = kHalvesBlocks[0], large = kHalvesBlocks[1];
    const size_t bytes = halves_bytes(cut.slab);
    if (!cut.once)
      return run_twice(halves_kernel<T, small.threads, small.held, 2, Twice>, args, cut.slab, units, bytes, stream);
    return run_once(cut.block.threads == small.threads ? halves_kernel<T, small.threads, small.held, 2, Once>
                                                       : halves_kernel<T, large.threads, large.held, 1, Once>,
                    args, cut.slab, units, bytes, stream);
  }
  if (cut.slabs) {
    constexpr Block small = kSlabBlocks[0], large = kSlabBlocks[1];
    const size_t bytes = slab_bytes(cut.slab, p.wide);
    if (!cut.once)
      return run_twice(slab_kernel<T, small.threads, small.held, 2, Twice>, args, cut.slab, units, bytes, stream);
    return run_once(cut.block.threads == small.threads ? slab_kernel<T, small.threads, small.held, 2, Once>
                                                       : slab_kernel<T, large.threads, large.held, 1, Once>,
                    args, cut.slab, units, bytes, stream);
  }
  const size_t bytes = sizeof(Pair) * cut.group.channels;
  if (!cut.once)
    return run_twice(cut.wide > 1 ? group_kernel<T, true, Twice> : group_kernel<T, false, Twice>, args, cut.group,
                     units, bytes, stream);
  return run_once(cut.wide > 1 ? group_kernel<T, true, Once> : group_kernel<T, false, Once>, args, cut.group, units,
                  bytes, stream);
}

template <class T>
static const char* norm(const GroupNormActBackwardArgs& args, Stream stream) {
  const GroupNorm& p = args.norm;
  const Cut cut = cut_of(p, true, shared_memory());
  const int64_t units = cut.units(p);
  if (cut.slabs) {
    const size_t bytes = slab_backward_bytes(cut.slab, p.wide);
    if (!cut.once) return run_twice(slab_backward_kernel<T, Twice>, args, cut.slab, units, bytes, stream);
    return run_once(slab_backward_kernel<T, Once>, args, cut.slab, units, bytes, stream);
  }
  const size_t bytes = group_backward_bytes(cut.group);
  if (!cut.once)
    return run_twice(cut.wide > 1 ? group_backward_kernel<T, true, Twice> : group_backward_kernel<T, false, Twice>,
                     args, cut.group, units, bytes, stream);
  return run_once(cut.wide > 1 ? group_backward_kernel<T, true, Once> : group_backward_kernel<T, false, Once>, args,
                  cut.group, units, bytes, stream);
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
