#pragma once
// The norm of rows that fit into registers: a warp or four take a row, and what modulates it waits in shared memory
// while rows of one sample follow each other.
#include "inverse_sqrt.cuh"
#include "norm_modulate_body.h"
#include "pack.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr int kRowWarps = 4;  // of a block

// The sum over a row: of the lanes of its warp, then of its warps.  Two places in turn, so that one barrier a sum will
// do.
template <int warps>
struct RowSum {
  float (*of_warps)[kRowWarps];  // [2]
  int place = 0;
  __device__ float operator()(float sum) {
    for (int distance = 16; distance > 0; distance /= 2) sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
    if constexpr (warps > 1) {
      float* to = of_warps[place];
      place ^= 1;
      if (threadIdx.x % 32 == 0) to[threadIdx.x / 32] = sum;
      __syncthreads();
      sum = to[0];
      GENFAST_UNROLL
      for (int warp = 1; warp < warps; ++warp) sum = sum + to[warp];
    }
    return sum;
  }
};

// Floats of the columns of a pack, in shared memory: [table][quad of a pack][pack], so that neighbors lie side by side.
template <class T>
struct ColumnTables {
  static constexpr int kQuads = kPack<T> / 4;
  uint4* memory;
  int packs;
  __device__ void store(int table, int quad, const float* values) const {
    memory[(table * kQuads + quad % kQuads) * packs + quad / kQuads] = packed<float>(values);
  }
  __device__ void load(int table, int pack, float* values) const {
    GENFAST_UNROLL
    for (int q = 0; q < kQuads; ++q) unpack<float>(memory[(table * kQuads + q) * packs + pack], values + 4 * q);
  }
};

// Four columns of a row, which may begin anywhere; `missing` where there is no row.
template <class Of>
__device__ void quad_of(const Of* row, int quad, float missing, float* values) {
  const Of* from = row + 4 * quad;
  const bool wide = reinterpret_cast<uintptr_t>(row) % (4 * sizeof(Of)) == 0;
  GENFAST_UNROLL
  for (int k = 0; k < 4; ++k) values[k] = row && !wide ? widen(from[k]) : missing;
  if (row && wide) Pack<4, Of>::load(from, values);
}

// The columns of a pack of a row of floats.
template <class T>
__device__ void columns_of(const float* row, int pack, float missing, float* values) {
  GENFAST_UNROLL
  for (int k = 0; k < kPack<T>; k += 4) quad_of(row, (pack * kPack<T> + k) / 4, missing, values + k);
}

// Of a sample: what its rows are multiplied with, what is added to them, and the gate.  Of: what the small tensors are
// made of.
template <class Of, bool gated_sum, class T>
__device__ void make_tables(const NormModulateArgs& p, int64_t sample, const ColumnTables<T>& tables) {
  const auto columns = [&](const Small& small, int64_t row, int quad, float missing, float* values) {
    quad_of(static_cast<const Of*>(small.data) + row * small.stride, quad, missing, values);
  };
  for (int quad = threadIdx.x; quad < int(p.shape.features) / 4; quad += 32 * kRowWarps) {
    float weight[4], bias[4], scale[4], shift[4];
    columns(p.weight, 0, quad, 1.0f, weight), columns(p.bias, 0, quad, 0.0f, bias);
    columns(p.scale, sample, quad, 0.0f, scale), columns(p.shift, sample, quad, 0.0f, shift);
    GENFAST_UNROLL
    for (int k = 0; k < 4; ++k) {
      shift[k] = offset(bias[k], scale[k], shift[k]);
      weight[k] = factor(weight[k], scale[k]);
    }
    tables.store(0, quad, weight), tables.store(1, quad, shift);
    if constexpr (gated_sum) {
      columns(p.gate, sample, quad, 0.0f, bias);
      tables.store(2, quad, bias);
    }
  }
}

// A thread's part of a row: as it lies in memory, or, where it is a sum that is not kept in memory, in float32.
template <class T, int packs, bool sum>
struct HeldRow {
  static constexpr int kSize = kPack<T>;
  uint4 loaded[packs];
  float wide[sum ? packs : 1][kSize];
  __device__ void values(int i, float* v) const {
    if constexpr (sum) {
      GENFAST_UNROLL
      for (int k = 0; k < kSize; ++k) v[k] = wide[i][k];
    } else {
      unpack<T>(loaded[i], v);
    }
  }
};

// Block b takes `rows` rows of one sample, of which it has `blocks` blocks.  `narrow`: the small tensors are of T.
template <class T, int packs, int warps, bool gated_sum>
__global__ void __launch_bounds__(32 * kRowWarps)
    rows_kernel(const __grid_constant__ NormModulateArgs p, int rows, int blocks, bool narrow) {
  constexpr int size = kPack<T>, step = 32 * warps, teams = kRowWarps / warps;
  GENFAST_DYNAMIC_SHARED(uint4, memory);
  GENFAST_SHARED(float[2][kRowWarps], of_warps);
  const int n = int(p.shape.features), count = n / size, sample = blockIdx.x / blocks;
  const ColumnTables<T> tables{memory, count};
  if (std::is_same_v<T, float> || !narrow)
    make_tables<float, gated_sum>(p, sample, tables);
  else
    make_tables<T, gated_sum>(p, sample, tables);
  __syncthreads();

  const int64_t begin = int64_t(blockIdx.x % blocks) * rows, first = sample * p.shape.tokens + begin;
  const int last = int(begin + rows < p.shape.tokens ? rows : p.shape.tokens - begin);
  const int lane = threadIdx.x % step, team = threadIdx.x / step;
  const auto inside = [&](int i) { return i * step + lane < count; };
  const float inverse = 1.0f / float(n);
  RowSum<warps> total{of_warps};
  const int64_t start = (first + team) * n + lane * size;
  const T *x = static_cast<const T*>(p.x) + start, *y = gated_sum ? static_cast<const T*>(p.y) + start : nullptr;
  T *out = static_cast<T*>(p.out) + start, *to_v = gated_sum ? static_cast<T*>(p.v) + start : nullptr;
  GENFAST_NO_UNROLL
  for (int row = team; row < last; row += teams) {
    HeldRow<T, packs, gated_sum> held;
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) held.loaded[i] = inside(i) ? load_wide(x + i * step * size) : uint4{};
    if constexpr (gated_sum) {
      uint4 added[packs];
      GENFAST_UNROLL
      for (int i = 0; i < packs; ++i) added[i] = inside(i) ? load_wide(y + i * step * size) : uint4{};
      GENFAST_UNROLL
      for (int i = 0; i < packs; ++i) {
        float (&v)[size] = held.wide[i], by[size], add[size];
        unpack<T>(held.loaded[i], v), unpack<T>(added[i], add);
        if (!inside(i)) continue;
        tables.load(2, i * step + lane, by);
        GENFAST_UNROLL
        for (int k = 0; k < size; ++k) v[k] = gated(v[k], by[k], add[k]);
        store_wide(reinterpret_cast<uint4*>(to_v + i * step * size), packed<T>(v));
      }
      y += teams * n, to_v += teams * n;
    }

    float mean = 0.0f, sum = 0.0f;
    if (!p.rms) {
      GENFAST_UNROLL
      for (int i = 0; i < packs; ++i) {
        float v[size];
        held.values(i, v);
        GENFAST_UNROLL
        for (int k = 0; k < size; ++k) sum = sum + v[k];
      }
      mean = total(sum) * inverse, sum = 0.0f;
    }
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      float v[size];
      held.values(i, v);
      if (inside(i)) GENFAST_UNROLL
      for (int k = 0; k < size; ++k) {
        const float far = v[k] - mean;
        sum = fma_(far, far, sum);
      }
    }
    const Moments m{mean, inverse_sqrt(fma_(total(sum), inverse, p.eps))};
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      float v[size], by[size], add[size];
      if (!inside(i)) continue;
      held.values(i, v), tables.load(0, i * step + lane, by), tables.load(1, i * step + lane, add);
      GENFAST_UNROLL
      for (int k = 0; k < size; ++k) v[k] = fma_(m.normalized(v[k]), by[k], add[k]);
      store_wide(reinterpret_cast<uint4*>(out + i * step * size), packed<T>(v));
    }
    if (lane == 0) {
      if (p.mean) p.mean[first + row] = m.mean;
      if (p.rstd) p.rstd[first + row] = m.rstd;
    }
    x += teams * n, out += teams * n;
  }
}

// Rows that a block takes one after the other: few enough for all multiprocessors to have some.
inline int rows_of_block(const Tokens& shape, int teams) {
  const int64_t fair = shape.batch * shape.tokens / 4096, most = 8 * teams;
  const int64_t rows = (fair < most ? fair : most) / teams * teams;
  return int(rows > teams ? rows : teams);
}

// Whether the rows fit, and so were taken.  Those of tables may begin anywhere.
template <class T>
bool launch_rows(NormModulateArgs p, Stream stream) {
  const int64_t count = p.shape.features / kPack<T>;
  const size_t bytes = (p.y ? 3 : 2) * sizeof(float) * p.shape.features;
  if (!aligned(p.x, p.y, p.v, p.out) || p.shape.features % kPack<T> != 0 || count > 6 * 32 * kRowWarps ||
      bytes + 64 > shared_memory())
    return false;
  if (!p.scale.data && !p.shift.data && !p.gate.data) p.shape = {1, p.shape.batch * p.shape.tokens, p.shape.features};
  const bool narrow = p.weight.narrow || p.bias.narrow || p.scale.narrow || p.shift.narrow || p.gate.narrow;
  const auto launch = [&]<int packs, int warps>() {
    const int rows = rows_of_block(p.shape, kRowWarps / warps);
    const int64_t blocks = (p.shape.tokens + rows - 1) / rows;
    if (blocks * p.shape.batch >= int64_t(1) << 31) return false;
    const dim3 grid(unsigned(blocks * p.shape.batch)), block(32 * kRowWarps);
    if (p.y)
      GENFAST_KERNEL_LAUNCH((rows_kernel<T, packs, warps, true>), grid, block, bytes, stream, p, rows, int(blocks),
                            narrow);
    else
      GENFAST_KERNEL_LAUNCH((rows_kernel<T, packs, warps, false>), grid, block, bytes, stream, p, rows, int(blocks),
                            narrow);
    return true;
  };
  if (count <= 64) return launch.template operator()<2, 1>();
  if (count <= 96) return launch.template operator()<3, 1>();
  if (count <= 160) return launch.template operator()<5, 1>();
  if (count <= 256) return launch.template operator()<2, 4>();
  if (count <= 384) return launch.template operator()<3, 4>();
  return launch.template operator()<6, 4>();
}

}  // namespace genfast::inline GENFAST_ISA
