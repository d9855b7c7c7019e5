#include <cstring>
#include <memory>

#include "affine_gradients_body.h"
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

// A row of small numbers in float32: as it lies, or in `room`.
template <class T>
static const float* wide_row(const Small& small, int64_t sample, int64_t features, float* room) {
  const float* row = nullptr;
  if (!small.data) return row;
  with_row<T>(small, sample, [&](const auto* from) {
    if constexpr (std::is_same_v<decltype(from), const float*>)
      row = from;
    else
      lanes(0, features, [&](auto lane) { lane.store(room, lane.load(from)); }), row = room;
  });
  return row;
}

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
static Floats load_or(const L& lane, const float* row, float missing) {
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
  GENFAST_HD Floats operator()(const L& lane) const {
    const Floats sum = y ? gated(lane.load(x), lane.load(gate), lane.load(y)) : lane.load(x);
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
      const Floats v = sum(lane);
      return Terms<Floats>{v * v};
    });
    return {0.0f, rstd_of(*total, features, eps)};
  }
  const float first = sum.first();
  sum_row(features, total, [&](auto lane) { return Terms<Floats>{sum(lane) - all(first)}; });
  const float mean = mean_of(first, *total, features);
  sum_row(features, total, [=, v = sum.v](auto lane) {
    const Floats far = lane.load(v) - all(mean);
    return Terms<Floats>{far * far};
  });
  return {mean, rstd_of(*total, features, eps)};
}

template <class T>
static void forward(const NormModulateArgs& p, int64_t first, int64_t last) {
  const int64_t n = p.shape.features;
  const Rows rows(8, n);
  float *factors = rows[0], *offsets = rows[1], *scratch = rows[2];
  const float *weight = wide_row<T>(p.weight, 0, n, rows[3]), *bias = wide_row<T>(p.bias, 0, n, rows[4]);
  units(p.shape, first, last, [&](int64_t, int64_t sample, int64_t begin, int64_t end) {
    const float *scale = wide_row<T>(p.scale, sample, n, rows[5]), *shift = wide_row<T>(p.shift, sample, n, rows[6]);
    const float* gate = wide_row<T>(p.gate, sample, n, rows[7]);
    lanes(0, n, [&](auto lane) {
      const Floats s = load_or(lane, scale, 0.0f);
      lane.store(factors, factor(load_or(lane, weight, 1.0f), s));
      lane.store(offsets, offset(load_or(lane, bias, 0.0f), s, load_or(lane, shift, 0.0f)));
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

// The sums over the tokens of a unit: of grad_out, of grad_out x_hat, of grad_v y; null where not wanted.
struct TokenSums {
  float *grads = nullptr, *slopes = nullptr, *gates = nullptr;
  TokenSums(const NormModulateBackwardArgs& p, int64_t unit) {
    const int64_t n = p.shape.features, sums = p.column_sums();
    if (sums == 0) return;
    float* start = p.columns + unit * sums * n;
    std::memset(start, 0, sums * n * sizeof(float));
    if (p.modulation) grads = start, slopes = start + n;
    if (p.y) gates = start + (sums - 1) * n;
  }
};

template <class T>
static void backward(const NormModulateBackwardArgs& p, int64_t first, int64_t last) {
  const int64_t n = p.shape.features;
  const Rows rows(1, n);
  float* factors = rows[0];
  units(p.shape, first, last, [&](int64_t unit, int64_t sample, int64_t begin, int64_t end) {
    const float *scale = row_of(p.scale, sample), *gate = row_of(p.gate, sample);
    lanes(0, n,
          [&](auto lane) { lane.store(factors, factor(load_or(lane, p.weight, 1.0f), load_or(lane, scale, 0.0f))); });
    const TokenSums columns(p, unit);
    for (int64_t row = begin; row < end; ++row) {
      const T *grad_out = row_at<const T>(p.grad_out, row * n), *too = row_at<const T>(p.grad_v_too, row * n);
      const T *v = row_at<const T>(p.v, row * n), *y = row_at<const T>(p.y, row * n);
      T *grad_v = row_at<T>(p.grad_v, row * n), *grad_y = row_at<T>(p.grad_y, row * n);
      const Moments at{p.mean ? p.mean[row] : 0.0f, p.rstd[row]};
      float sum[2] = {};
      if (grad_v)
        sum_row(n, sum, [=](auto lane) {
          const Floats d = lane.load(grad_out) * lane.load(factors);
          return Terms<Floats, 2>{d, d * at.normalized(lane.load(v))};
        });
      const RowGradient gradient{at, p.mean ? sum[0] / float(n) : 0.0f, sum[1] / float(n)};
      lanes(0, n, [=](auto lane) {
        const Floats grad = lane.load(grad_out), x_hat = at.normalized(lane.load(v));
        if (columns.grads) {
          lane.store(columns.grads, lane.load(columns.grads) + grad);
          lane.store(columns.slopes, fma_(grad, x_hat, lane.load(columns.slopes)));
        }
        if (!grad_v) return;
        const Floats g = gradient(grad * lane.load(factors), x_hat, too ? lane.load(too) : all(0.0f));
        lane.store(grad_v, g);
        if (grad_y) lane.store(grad_y, lane.load(gate) * g);
        if (y) lane.store(columns.gates, fma_(lane.load(grad_v), lane.load(y), lane.load(columns.gates)));
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

void affine_gradients(const AffineGradientsArgs& p, int64_t first, int64_t last) {
  const int64_t end = last * kFeatures < p.features ? last * kFeatures : p.features;
  lanes(first * kFeatures, end, [&](auto lane) {
    Floats total[2] = {all(0.0f), all(0.0f)}, part[2];
    for (int of = 0; of < kSampleParts; ++of) {
      affine_part(
          p, of, [&](const float* row) { return lane.load(row); },
          [&](float* row, Floats value) { lane.store(row, value); }, part[0], part[1]);
      for (int i = 0; i < 2; ++i) total[i] = total[i] + part[i];
    }
    if (p.to_weight) lane.store(p.to_weight, total[0]);
    if (p.to_bias) lane.store(p.to_bias, total[1]);
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
