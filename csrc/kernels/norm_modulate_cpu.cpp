#include <memory>

#include "map.h"
#include "norm_modulate_body.h"
#include "rows.h"

namespace genfast::cpu::GENFAST_ISA {

// Rows of floats that a thread works with.
struct Rows {
  std::unique_ptr<float[]> data;
  int64_t features;
  Rows(int count, int64_t features) : data(new float[count * features]), features(features) {}
  float* operator[](int i) const { return data.get() + i * features; }
};

// visit(sample, unit, first token, last token) for each unit of work.
template <class Visit>
static void units(const Tokens& shape, int64_t first, int64_t last, Visit visit) {
  for (int64_t work = first; work < last; ++work) {
    const int64_t sample = work / shape.units(), begin = work % shape.units() * kTokens, end = begin + kTokens;
    visit(work, sample, sample * shape.tokens + begin,
          sample * shape.tokens + (end < shape.tokens ? end : shape.tokens));
  }
}

template <class L>
static F load_or(const L& lane, const float* row, float missing) {
  return row ? lane.load(row) : all(missing);
}

template <class T, class Pointer>
static T* row_at(Pointer* base, int64_t start) {
  return base ? static_cast<T*>(base) + start : nullptr;
}

// One row of v, in float32: made on the first pass over it, and left in memory for the next ones.
template <class T>
struct Sum {
  static constexpr bool kWide = std::is_same_v<T, float>;
  const T *x, *y;
  const float* gate;
  T* out;    // the copy that is returned, or null
  float* v;  // where it lies in float32

  Sum(const NormModulateArgs& p, int64_t start, const float* gate, float* scratch)
      : x(row_at<const T>(p.x, start)), y(row_at<const T>(p.y, start)), gate(gate), out(row_at<T>(p.v, start)) {
    if constexpr (kWide)
      v = y ? out : const_cast<float*>(x);
    else
      v = scratch;
  }
  float first() const { return y ? std::fma(*gate, widen(*y), widen(*x)) : widen(*x); }
  template <class L>
  GENFAST_HD F operator()(const L& lane) const {
    const F sum = y ? gated(lane.load(x), lane.load(gate), lane.load(y)) : lane.load(x);
    if (!kWide) lane.store(v, sum);
    if (y) lane.store(out, sum);
    return sum;
  }
};

template <class T>
static Moments moments(const Sum<T>& sum, int64_t features, float eps, bool rms) {
  float total[1];
  if (rms) {
    sum_row(features, total, [&](auto lane) {
      const F v = sum(lane);
      return Terms<F>{v * v};
    });
    return {0.0f, rstd_of(*total, features, eps)};
  }
  const float first = sum.first();
  sum_row(features, total, [&](auto lane) { return Terms<F>{sum(lane) - all(first)}; });
  const float mean = mean_of(first, *total, features);
  sum_row(features, total, [=, v = sum.v](auto lane) {
    const F far = lane.load(v) - all(mean);
    return Terms<F>{far * far};
  });
  return {mean, rstd_of(*total, features, eps)};
}

template <class T>
static void forward(const NormModulateArgs& p, int64_t first, int64_t last) {
  const int64_t n = p.shape.features;
  const Rows rows(3, n);
  float *factors = rows[0], *offsets = rows[1], *scratch = rows[2];
  units(p.shape, first, last, [&](int64_t, int64_t sample, int64_t begin, int64_t end) {
    const float *scale = row_of(p.scale, sample), *shift = row_of(p.shift, sample), *gate = row_of(p.gate, sample);
    lanes(0, n, [&](auto lane) {
      const F s = load_or(lane, scale, 0.0f);
      lane.store(factors, factor(load_or(lane, p.weight, 1.0f), s));
      lane.store(offsets, offset(load_or(lane, p.bias, 0.0f), s, load_or(lane, shift, 0.0f)));
    });
    for (int64_t row = begin; row < end; ++row) {
      const Sum<T> sum(p, row * n, gate, scratch);
      const Moments m = moments(sum, n, p.eps, p.rms);
      T* out = static_cast<T*>(p.out) + row * n;
      lanes(0, n, [&](auto lane) {
        lane.store(out, fma_(m.normalized(lane.load(sum.v)), lane.load(factors), lane.load(offsets)));
      });
      if (p.mean) p.mean[row] = m.mean;
      if (p.rstd) p.rstd[row] = m.rstd;
    }
  });
}

template <class T>
struct BackwardRow {
  const T *grad_out, *too, *v, *y;
  T *grad_v, *grad_y;
  Moments at;

  BackwardRow(const NormModulateBackwardArgs& p, int64_t row) : at{p.mean ? p.mean[row] : 0.0f, p.rstd[row]} {
    const int64_t start = row * p.shape.features;
    grad_out = row_at<const T>(p.grad_out, start), too = row_at<const T>(p.grad_v_too, start);
    v = row_at<const T>(p.v, start), y = row_at<const T>(p.y, start);
    grad_v = row_at<T>(p.grad_v, start), grad_y = row_at<T>(p.grad_y, start);
  }

  RowGradient gradient(const float* factors, int64_t features, bool rms) const {
    float sum[2];
    sum_row(features, sum, [&](auto lane) {
      const F d = lane.load(grad_out) * lane.load(factors);
      return Terms<F, 2>{d, d * at.normalized(lane.load(v))};
    });
    return {at, rms ? 0.0f : sum[0] / float(features), sum[1] / float(features)};
  }
};

// Of up to four rows at a time, for the sums over tokens to be read and written as rarely.
template <class T>
static void backward(const NormModulateBackwardArgs& p, int64_t first, int64_t last) {
  constexpr int kTogether = 4;
  const int64_t n = p.shape.features, sums = p.column_sums();
  const Rows rows(1, n);
  float* factors = rows[0];
  units(p.shape, first, last, [&](int64_t unit, int64_t sample, int64_t begin, int64_t end) {
    const float *scale = row_of(p.scale, sample), *gate = row_of(p.gate, sample);
    lanes(0, n,
          [&](auto lane) { lane.store(factors, factor(load_or(lane, p.weight, 1.0f), load_or(lane, scale, 0.0f))); });
    float* columns[3] = {};  // sum grad_out, sum grad_out x_hat, sum grad_v y
    if (sums) std::memset(p.columns + unit * sums * n, 0, sums * n * sizeof(float));
    for (int i = 0; i < sums; ++i) columns[p.modulation ? i : 2] = p.columns + (unit * sums + i) * n;
    for (int64_t row = begin; row < end; row += kTogether) {
      const int count = int(end - row < kTogether ? end - row : kTogether);
      RowGradient gradients[kTogether];
      for (int i = 0; i < count; ++i)
        if (p.grad_v) gradients[i] = BackwardRow<T>(p, row + i).gradient(factors, n, !p.mean);
      lanes(0, n, [&](auto lane) {
        F sum_grad{}, sum_slope{}, sum_gate{};
        if (p.modulation) sum_grad = lane.load(columns[0]), sum_slope = lane.load(columns[1]);
        if (p.y) sum_gate = lane.load(columns[2]);
        for (int i = 0; i < count; ++i) {
          const BackwardRow<T> r(p, row + i);
          const F grad_out = lane.load(r.grad_out), x_hat = r.at.normalized(lane.load(r.v));
          if (p.grad_v) {
            const F too = r.too ? lane.load(r.too) : all(0.0f);
            const F g = gradients[i](grad_out * lane.load(factors), x_hat, too);
            lane.store(r.grad_v, g);
            if (r.grad_y) lane.store(r.grad_y, lane.load(gate) * g);
            if (r.y) sum_gate = fma_(lane.load(r.grad_v), lane.load(r.y), sum_gate);
          }
          sum_grad = sum_grad + grad_out, sum_slope = fma_(grad_out, x_hat, sum_slope);
        }
        if (p.modulation) lane.store(columns[0], sum_grad), lane.store(columns[1], sum_slope);
        if (p.y) lane.store(columns[2], sum_gate);
      });
    }
  });
}

void norm_modulate(const NormModulateArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { forward<decltype(type)>(p, first, last); });
}

void norm_modulate_backward(const NormModulateBackwardArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) { backward<decltype(type)>(p, first, last); });
}

void add_units(const AddUnitsArgs& p, int64_t first, int64_t last) { map(p.shape, first, last, AddUnitsBody{p}); }

}  // namespace genfast::cpu::GENFAST_ISA
