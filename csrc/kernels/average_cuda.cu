#include <algorithm>

#include "average_body.h"
#include "map.cuh"

namespace genfast::cuda {

namespace {

constexpr int kTensors = 104;  // of one launch, whose arguments take less than 4 KiB: a captured graph keeps them
constexpr int kEach = 4;       // elements a thread
constexpr int kAcross = int(kUnit) / kEach;
constexpr int kTogether = 4;  // lengths whose loads are in flight at a time

struct Table {
  float* averages[kTensors];
  const float* values[kTensors];
  int64_t sizes[kTensors], strides[kTensors];
  uint32_t starts[kTensors];  // units before each, of those of this launch
  int32_t tensors;
};

struct Pack {
  float v[kEach];
};
template <bool wide>
GENFAST_HD Pack load_pack(const float* p, int count) {
  if constexpr (wide) {
    return std::bit_cast<Pack>(*reinterpret_cast<const uint4*>(p));
  } else {
    Pack pack;
    GENFAST_UNROLL
    for (int i = 0; i < kEach; ++i) pack.v[i] = i < count ? p[i] : 0.0f;
    return pack;
  }
}
template <bool wide>
GENFAST_HD void store_pack(float* p, const Pack& pack, int count) {
  if constexpr (wide) {
    store_wide(reinterpret_cast<uint4*>(p), std::bit_cast<uint4>(pack));
  } else {
    GENFAST_UNROLL
    for (int i = 0; i < kEach; ++i)
      if (i < count) p[i] = pack.v[i];
  }
}

template <bool wide>
GENFAST_HD void all_lengths(float* to, const float* from, const float* weights, int64_t lengths, int64_t stride,
                            int count) {
  const Pack value = load_pack<wide>(from, count);
  for (int64_t k = 0; k < lengths; k += kTogether, to += kTogether * stride) {
    Pack average[kTogether];
    float weight[kTogether];
    GENFAST_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      weight[j] = k + j < lengths ? weights[k + j] : 0.0f;
      if (weight[j] > 0) average[j] = load_pack<wide>(to + j * stride, count);
    }
    GENFAST_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      if (!(weight[j] > 0)) continue;
      const Toward step(weight[j]);
      GENFAST_UNROLL
      for (int i = 0; i < kEach; ++i) average[j].v[i] = step(average[j].v[i], value.v[i]);
      store_pack<wide>(to + j * stride, average[j], count);
    }
  }
}

// Sixteen threads take a unit.
template <bool vector>
__global__ void __launch_bounds__(kThreads, 1)
    average_kernel(const __grid_constant__ Table table, const float* weights, int64_t lengths, int64_t units) {
  const int lane = int(threadIdx.x) % kAcross * kEach;
  for (int64_t unit = blockIdx.x * int64_t(kThreads / kAcross) + threadIdx.x / kAcross; unit < units;
       unit += int64_t(gridDim.x) * (kThreads / kAcross)) {
    int tensor = 0;  // the last that starts here or before
    for (int end = table.tensors; end - tensor > 1;) {
      const int middle = (tensor + end) / 2;
      (table.starts[middle] <= unit ? tensor : end) = middle;
    }
    const int64_t at = (unit - table.starts[tensor]) * kUnit + lane, left = table.sizes[tensor] - at;
    if (left <= 0) continue;
    float* to = table.averages[tensor] + at;
    const float* from = table.values[tensor] + at;
    if (vector && left >= kEach)
      all_lengths<true>(to, from, weights, lengths, table.strides[tensor], kEach);
    else
      all_lengths<false>(to, from, weights, lengths, table.strides[tensor], int(left < kEach ? left : kEach));
  }
}

}  // namespace

const char* average(const AverageArgs& p, Stream stream) {
  for (int64_t begin = 0; begin < p.tensors; begin += kTensors) {
    const int64_t end = std::min<int64_t>(begin + kTensors, p.tensors), units = p.starts[end] - p.starts[begin];
    if (units == 0) continue;
    Table table{};
    table.tensors = int32_t(end - begin);
    bool vector = true;
    for (int64_t i = begin; i < end; ++i) {
      table.averages[i - begin] = p.averages[i], table.values[i - begin] = p.values[i];
      table.sizes[i - begin] = p.sizes[i], table.strides[i - begin] = p.strides[i];
      table.starts[i - begin] = uint32_t(p.starts[i] - p.starts[begin]);
      vector = vector && aligned(p.averages[i], p.values[i]) && p.strides[i] % kEach == 0;
    }
    const int64_t blocks = (units * kAcross + kThreads - 1) / kThreads;
    const dim3 grid(unsigned(std::min<int64_t>(blocks, 1 << 20))), block(kThreads);
    if (vector)
      GENFAST_KERNEL_LAUNCH(average_kernel<true>, grid, block, 0, stream, table, p.weights, p.lengths, units);
    else
      GENFAST_KERNEL_LAUNCH(average_kernel<false>, grid, block, 0, stream, table, p.weights, p.lengths, units);
    if (const char* error = launch_error()) return error;
  }
  return nullptr;
}

}  // namespace genfast::cuda
