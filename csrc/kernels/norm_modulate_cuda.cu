#include "affine_gradients.cuh"
#include "flat.cuh"
#include "norm_modulate_backward.cuh"
#include "reduce.cuh"

namespace genfast::cuda {

// Rows of any width, one by a warp.  A thread has eight elements of every 256, its accumulators in the order of
// math/sum.h, and reads them again where it needs them.
template <class Visit>
__device__ void tiles_of_thread(int64_t begin, int64_t end, Visit visit) {
  for (int64_t first = begin + threadIdx.x * 8; first < end; first += kAccumulators) visit(first);
}

// Adds the `sums` Values that term(first) gives, over a row.
template <int sums, class Term>
__device__ void sum_row(int64_t features, float (&total)[sums], Term term) {
  for (float& t : total) t = 0.0f;
  for (int64_t begin = 0; begin < features; begin += kChunk) {
    float accumulators[sums][8] = {};
    tiles_of_thread(begin, begin + kChunk < features ? begin + kChunk : features, [&](int64_t first) {
      const auto terms = term(first);
      GENFAST_UNROLL
      for (int i = 0; i < sums; ++i) GENFAST_UNROLL
      for (int k = 0; k < 8; ++k)
        accumulators[i][k] = accumulators[i][k] + (first + k < features ? terms.of[i].v[k] : 0.0f);
    });
    GENFAST_UNROLL
    for (int i = 0; i < sums; ++i) total[i] = total[i] + sum_of_warp(accumulators[i]);
  }
}

template <bool vector>
using Values = typename CudaTile<vector>::Values;

template <class Row, bool vector>
__device__ Values<vector> load_or(const CudaTile<vector>& tile, const Row* row, float missing) {
  if (row) return tile.load(row);
  Values<vector> values;
  GENFAST_UNROLL
  for (int k = 0; k < 8; ++k) values.v[k] = missing;
  return values;
}

template <class T, bool vector>
__device__ Values<vector> load_or(const CudaTile<vector>& tile, const Small& small, int64_t sample, float missing) {
  return with_row<T>(small, sample, [&](const auto* row) { return load_or(tile, row, missing); });
}

// At least one block a multiprocessor: without a number the compiler spills a register or two to fit three.
template <class T, bool vector>
__global__ void __launch_bounds__(kThreads, 1) norm_kernel(const __grid_constant__ NormModulateArgs p) {
  using Tile = CudaTile<vector>;
  const int64_t n = p.shape.features, rows = p.shape.batch * p.shape.tokens;
  const Shape shape{rows, n, 1};
  const T *x = static_cast<const T*>(p.x), *y = static_cast<const T*>(p.y);
  for (int64_t row = blockIdx.x * int64_t(kWarps) + threadIdx.y; row < rows; row += int64_t(gridDim.x) * kWarps) {
    const int64_t sample = row / p.shape.tokens;
    const auto read = [&](int64_t first) {
      const Tile tile{shape, row, first};
      auto v = tile.load(x);
      if (!y) return v;
      const auto added = tile.load(y), by = load_or<T>(Tile{shape, 0, first}, p.gate, sample, 0.0f);
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k) v.v[k] = gated(v.v[k], by.v[k], added.v[k]);
      return v;
    };
    if (y)
      tiles_of_thread(0, n, [&](int64_t first) { Tile{shape, row, first}.store(static_cast<T*>(p.v), read(first)); });

    float total[1], mean = 0.0f;
    if (!p.rms) {
      float v_0 = widen(x[row * n]);
      if (y) with_row<T>(p.gate, sample, [&](const auto* gate) { v_0 = gated(v_0, widen(*gate), widen(y[row * n])); });
      sum_row(n, total, [&](int64_t first) {
        auto v = read(first);
        GENFAST_UNROLL
        for (int k = 0; k < 8; ++k) v.v[k] = v.v[k] - v_0;
        return Terms<Values<vector>>{{v}};
      });
      mean = mean_of(v_0, *total, n);
    }
    sum_row(n, total, [&](int64_t first) {
      auto v = read(first);
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k) v.v[k] = (v.v[k] - mean) * (v.v[k] - mean);
      return Terms<Values<vector>>{{v}};
    });
    const Moments m{mean, rstd_of(*total, n, p.eps)};
    tiles_of_thread(0, n, [&](int64_t first) {
      const Tile of_row{shape, 0, first};
      const auto weight = load_or<T>(of_row, p.weight, 0, 1.0f), bias = load_or<T>(of_row, p.bias, 0, 0.0f);
      const auto by = load_or<T>(of_row, p.scale, sample, 0.0f), add = load_or<T>(of_row, p.shift, sample, 0.0f);
      auto v = read(first);
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k)
        v.v[k] = fma_(m.normalized(v.v[k]), factor(weight.v[k], by.v[k]), offset(bias.v[k], by.v[k], add.v[k]));
      Tile{shape, row, first}.store(static_cast<T*>(p.out), v);
    });
    if (threadIdx.x == 0) {
      if (p.mean) p.mean[row] = m.mean;
      if (p.rstd) p.rstd[row] = m.rstd;
    }
  }
}

template <class T, bool vector>
__global__ void __launch_bounds__(kThreads) gradient_kernel(const __grid_constant__ NormModulateBackwardArgs p) {
  using Tile = CudaTile<vector>;
  const int64_t n = p.shape.features, rows = p.shape.batch * p.shape.tokens;
  const Shape shape{rows, n, 1};
  for (int64_t row = blockIdx.x * int64_t(kWarps) + threadIdx.y; row < rows; row += int64_t(gridDim.x) * kWarps) {
    const int64_t sample = row / p.shape.tokens;
    const float *scale = row_of(p.scale, sample), *gate = row_of(p.gate, sample);
    const Moments at{p.mean ? p.mean[row] : 0.0f, p.rstd[row]};
    // d and x_hat
    const auto read = [&](int64_t first) {
      const Tile tile{shape, row, first}, of_row{shape, 0, first};
      auto d = tile.load(static_cast<const T*>(p.grad_out)), x_hat = tile.load(static_cast<const T*>(p.v));
      const auto weight = load_or(of_row, p.weight, 1.0f), by = load_or(of_row, scale, 0.0f);
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k) {
        d.v[k] = d.v[k] * factor(weight.v[k], by.v[k]);
        x_hat.v[k] = at.normalized(x_hat.v[k]);
      }
      return Terms<Values<vector>, 2>{{d, x_hat}};
    };
    float total[2];
    sum_row(n, total, [&](int64_t first) {
      auto terms = read(first);
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k) terms.of[1].v[k] = terms.of[0].v[k] * terms.of[1].v[k];
      return terms;
    });
    const RowGradient gradient{at, p.mean ? total[0] / float(n) : 0.0f, total[1] / float(n)};
    tiles_of_thread(0, n, [&](int64_t first) {
      const Tile tile{shape, row, first};
      auto [d, x_hat] = read(first).of;
      Values<vector> too{};
      if (p.grad_v_too) too = tile.load(static_cast<const T*>(p.grad_v_too));
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k) d.v[k] = gradient(d.v[k], x_hat.v[k], too.v[k]);
      tile.store(static_cast<T*>(p.grad_v), d);
      if (!p.grad_y) return;
      const auto by = Tile{shape, 0, first}.load(gate);
      GENFAST_UNROLL
      for (int k = 0; k < 8; ++k) d.v[k] = by.v[k] * d.v[k];
      tile.store(static_cast<T*>(p.grad_y), d);
    });
  }
}

// A thread takes eight features of a unit, token after token.
template <class T, bool vector>
__global__ void __launch_bounds__(32) columns_kernel(const __grid_constant__ NormModulateBackwardArgs p) {
  using Tile = CudaTile<vector>;
  const int64_t n = p.shape.features, units = p.units(), sums = p.column_sums();
  const Shape shape{p.shape.batch * p.shape.tokens, n, 1};
  for (int64_t unit = blockIdx.y; unit < p.shape.batch * units; unit += gridDim.y) {
    const int64_t sample = unit / units, begin = unit % units * p.unit, end = begin + p.unit;
    const int64_t start = sample * p.shape.tokens, last = start + (end < p.shape.tokens ? end : p.shape.tokens);
    for (int64_t first = (blockIdx.x * int64_t(32) + threadIdx.x) * 8; first < n;
         first += gridDim.x * int64_t(32) * 8) {
      Values<vector> grads{}, slopes{}, gates{};
      for (int64_t row = start + begin; row < last; ++row) {
        const Tile tile{shape, row, first};
        if (p.modulation) {
          const Moments at{p.mean ? p.mean[row] : 0.0f, p.rstd[row]};
          const auto grad = tile.load(static_cast<const T*>(p.grad_out)), v = tile.load(static_cast<const T*>(p.v));
          GENFAST_UNROLL
          for (int k = 0; k < 8; ++k) {
            grads.v[k] = grads.v[k] + grad.v[k];
            slopes.v[k] = fma_(grad.v[k], at.normalized(v.v[k]), slopes.v[k]);
          }
        }
        if (p.y) {
          const auto grad = tile.load(static_cast<const T*>(p.grad_v)), y = tile.load(static_cast<const T*>(p.y));
          GENFAST_UNROLL
          for (int k = 0; k < 8; ++k) gates.v[k] = fma_(grad.v[k], y.v[k], gates.v[k]);
        }
      }
      const Tile of_row{shape, 0, first};
      float* to = p.columns + unit * sums * n;
      if (p.modulation) of_row.store(to, grads), of_row.store(to + n, slopes);
      if (p.y) of_row.store(to + (sums - 1) * n, gates);
    }
  }
}

// Whether rows can be read 16 bytes at a time.
template <class... Pointers>
static bool rows_aligned(int64_t features, std::initializer_list<Small> tables, const Pointers*... pointers) {
  bool yes = features % 8 == 0 && aligned(pointers...);
  for (const Small& table : tables) yes = yes && aligned(table.data) && table.stride % (table.narrow ? 8 : 4) == 0;
  return yes;
}

template <class T>
static void launch_norm(const NormModulateArgs& p, Stream stream) {
  if (launch_rows<T>(p, stream)) return;
  const bool vector =
      rows_aligned(p.shape.features, {p.weight, p.bias, p.scale, p.shift, p.gate}, p.x, p.y, p.v, p.out);
  const dim3 grid(blocks_for(p.shape.batch * p.shape.tokens, kWarps)), block(32, kWarps);
  if (vector)
    GENFAST_KERNEL_LAUNCH((norm_kernel<T, true>), grid, block, 0, stream, p);
  else
    GENFAST_KERNEL_LAUNCH((norm_kernel<T, false>), grid, block, 0, stream, p);
}

template <class T, bool vector>
static const char* launch_backward(const NormModulateBackwardArgs& p, Stream stream) {
  if (p.grad_v) {
    const dim3 grid(blocks_for(p.shape.batch * p.shape.tokens, kWarps)), block(32, kWarps);
    GENFAST_KERNEL_LAUNCH((gradient_kernel<T, vector>), grid, block, 0, stream, p);
    if (const char* error = launch_error()) return error;
  }
  if (p.column_sums() == 0) return nullptr;
  const int64_t units = p.shape.batch * p.units();
  const dim3 grid(blocks_for(p.shape.features, 256), unsigned(units < 65535 ? units : 65535));
  GENFAST_KERNEL_LAUNCH((columns_kernel<T, vector>), grid, dim3(32), 0, stream, p);
  return launch_error();
}

static bool empty(const Tokens& shape) { return shape.batch * shape.tokens * shape.features == 0; }

const char* norm_modulate(const NormModulateArgs& p, Stream stream) {
  if (empty(p.shape)) return nullptr;
  with_type(p.dtype, [&](auto type) { launch_norm<decltype(type)>(p, stream); });
  return launch_error();
}

const char* norm_modulate_backward(const NormModulateBackwardArgs& p, Stream stream) {
  if (empty(p.shape)) return nullptr;
  const bool vector = rows_aligned(p.shape.features, {p.scale, p.gate}, p.grad_v, p.grad_y, p.columns, p.grad_out,
                                   p.grad_v_too, p.v, p.y, p.weight);
  const char* error = nullptr;
  with_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    if (launch_rows_backward<T>(p, stream)) {
      error = launch_error();
      return;
    }
    error = vector ? launch_backward<T, true>(p, stream) : launch_backward<T, false>(p, stream);
  });
  return error;
}

const char* add_units(const AddUnitsArgs& p, Stream stream) {
  return flat_map<float>(p.shape, aligned(p.out[0].data, p.out[1].data, p.out[2].data, p.parts), AddUnitsBody{p},
                         stream);
}

const char* affine_gradients(const AffineGradientsArgs& p, Stream stream) { return launch_affine_gradients(p, stream); }

}  // namespace genfast::cuda
