#include "dynamic_threshold_body.h"
#include "map.cuh"

namespace genfast::cuda {

struct Counts {
  unsigned histogram[kBins], sums[kThreads], above;
  Selection selection;
};

// A block selects the threshold of one row.  The counts are integers: their order does not matter.  `kept`: it reads
// the row once and has it in shared memory then.
static __global__ void __launch_bounds__(kThreads)
    threshold_kernel(const __grid_constant__ DynamicThresholdArgs p, bool kept) {
  constexpr int own = kBins / kThreads;
  GENFAST_DYNAMIC_SHARED(float, held);
  GENFAST_SHARED(Counts, counts);
  auto& [histogram, sums, above, selection] = counts;
  const int64_t n = p.shape.features;
  const QuantilePlace place(p.quantile, n);
  const unsigned me = threadIdx.x;
  for (int64_t row = blockIdx.x; row < p.shape.batch; row += gridDim.x) {
    const float* d = p.d + row * n;
    if (kept) {
      for (int64_t i = me; i < n; i += kThreads) held[i] = d[i];
      d = held;  // a thread reads what it wrote
    }
    if (me == 0) selection.prefix = 0, selection.rank = place.below, above = 0xffffffffu;
    for (int digit = 0; digit < kDigits; ++digit) {
      for (int i = 0; i < own; ++i) histogram[me + i * kThreads] = 0;
      __syncthreads();
      const Selection so_far = selection;
      for (int64_t i = me; i < n; i += kThreads) {
        const unsigned bin = so_far.bin(magnitude_bits(d[i]), digit);
        if (bin < kBins) atomicAdd(histogram + bin, 1u);
      }
      __syncthreads();
      unsigned sum = 0;
      for (int i = 0; i < own; ++i) sum += histogram[me * own + i];
      sums[me] = sum;
      __syncthreads();
      if (me < 32) {  // a lane takes eight sums of eight bins
        unsigned mine = 0;
        for (int i = 0; i < kThreads / 32; ++i) mine += sums[me * (kThreads / 32) + i];
        unsigned until = mine;
        for (unsigned distance = 1; distance < 32; distance *= 2) {
          const unsigned other = __shfl_sync(0xffffffffu, until, int(me < distance ? me : me - distance));
          if (me >= distance) until += other;
        }
        unsigned before = until - mine;
        if (before <= so_far.rank && so_far.rank < until) {
          unsigned at = me * (kThreads / 32);
          while (before + sums[at] <= so_far.rank) before += sums[at++];
          unsigned bin = at * own;
          while (before + histogram[bin] <= so_far.rank) before += histogram[bin++];
          selection.take(bin, digit, before, histogram[bin]);
        }
      }
      __syncthreads();
    }
    const Selection found = selection;
    const bool is_last = place.weight > 0 && found.rank + 1 == found.count;  // the next is another value
    if (is_last) {
      unsigned least = 0xffffffffu;
      for (int64_t i = me; i < n; i += kThreads) {
        const unsigned bits = magnitude_bits(d[i]);
        if (bits > found.prefix && bits < least) least = bits;
      }
      atomicMin(&above, least);
    }
    __syncthreads();
    if (me == 0)
      p.threshold[row] = bounded(p, interpolated(found.prefix, is_last ? above : found.prefix, place.weight));
    __syncthreads();
  }
}

const char* dynamic_threshold(const DynamicThresholdArgs& p, Stream stream) {
  if (p.shape.batch == 0 || p.shape.features == 0) return nullptr;
  const dim3 grid(unsigned(p.shape.batch < (1 << 20) ? p.shape.batch : (1 << 20)));
  const size_t row = p.shape.features * sizeof(float);
  const bool kept = row + sizeof(Counts) <= shared_memory();
  GENFAST_KERNEL_LAUNCH(threshold_kernel, grid, dim3(kThreads), kept ? row : 0, stream, p, kept);
  if (const char* error = launch_error()) return error;
  return map(p.shape, aligned(p.d, p.out), DynamicThresholdBody{p}, stream);
}

}  // namespace genfast::cuda
