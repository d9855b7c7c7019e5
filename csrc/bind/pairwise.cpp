#include "../kernels/pairwise.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "op.h"

namespace genfast {

namespace {

// The largest magnitude of a set; an infinity or NaN is refused.
float largest(const float* points, int64_t rows, int64_t features, const char* name) {
  uint32_t bits = 0;
  for (int64_t e = 0; e < rows * features; ++e) bits = std::max(bits, std::bit_cast<uint32_t>(points[e]) & 0x7fffffffu);
  if (bits >= 0x7f800000u)
    for (int64_t e = 0; e < rows * features; ++e)
      GENFAST_CHECK(std::isfinite(points[e]), "pairwise: ", name, "[", e / features, ", ", e % features,
                    "] must be a finite number; got ", points[e]);
  return std::bit_cast<float>(bits);
}

// The mean of up to 256 points, times `scale`.
std::vector<float> center_of(const float* points, int64_t rows, int64_t features, float scale) {
  const int64_t step = std::max<int64_t>(1, rows / 256);
  const double by = double(scale) / double((rows + step - 1) / step);
  std::vector<double> sum(features);
  for (int64_t row = 0; row < rows; row += step)
    for (int64_t d = 0; d < features; ++d) sum[d] += points[row * features + d];
  std::vector<float> center(features);
  for (int64_t d = 0; d < features; ++d) center[d] = float(sum[d] * by);
  return center;
}

}  // namespace

// For k > 0 (distance, index); for k = 0 (counts of x, counts of y).  The other two are empty.
std::tuple<Tensor, Tensor, Tensor, Tensor> pairwise(Tensor x, Tensor y, std::optional<Tensor> radius_x,
                                                    std::optional<Tensor> radius_y, int64_t k, bool exclude_self) {
  const Checker check("pairwise", x, "x");
  PairwiseArgs p{};
  GENFAST_CHECK(x.dim() == 2, "pairwise: x must have shape (N, D); got ", name_of(x.sizes()));
  GENFAST_CHECK(y.dim() == 2, "pairwise: y must have shape (M, D); got ", name_of(y.sizes()));
  p.n = x.size(0), p.m = y.size(0), p.features = x.size(1), p.k = k, p.exclude_self = exclude_self;
  check.table(x, "x", ScalarType::Float, {p.n, p.features});
  check.table(y, "y", ScalarType::Float, {p.m, p.features});
  GENFAST_CHECK(k >= 0 && (k == 0 || k <= p.m - exclude_self), "pairwise: k must lie in [0, ", p.m - exclude_self,
                "]; got ", k);
  const auto radius = [&](const std::optional<Tensor>& r, const char* name, int64_t count) -> const double* {
    if (!r) return nullptr;
    check.table(*r, name, ScalarType::Double, {count});
    const double* at = static_cast<const double*>(r->data_ptr());
    if (r->is_cpu())
      for (int64_t i = 0; i < count; ++i)
        GENFAST_CHECK(!std::isnan(at[i]), "pairwise: ", name, "[", i, "] must be a squared radius; got nan");
    return at;
  };
  p.radius_x = radius(radius_x, "radius_x", p.n), p.radius_y = radius(radius_y, "radius_y", p.m);
  p.x = static_cast<const float*>(x.data_ptr()), p.y = static_cast<const float*>(y.data_ptr());

  Tensor distance = check.empty(ScalarType::Double, {p.n, k}), index = check.empty(ScalarType::Long, {p.n, k});
  Tensor of_x = check.empty(ScalarType::Long, {2, k ? 0 : p.n}), of_y = check.empty(ScalarType::Long, {2, k ? 0 : p.m});
  x.call().zero(of_x), x.call().zero(of_y);
  p.distance = static_cast<double*>(distance.data_ptr()), p.index = static_cast<int64_t*>(index.data_ptr());
  p.in_x = static_cast<int64_t*>(of_x.data_ptr()), p.over_x = p.in_x + p.n;
  p.over_y = static_cast<int64_t*>(of_y.data_ptr()), p.in_y = p.over_y + p.m;

  if (runs_cuda_twin(x)) p.scratch = check.scratch<char>(PairwiseMemory(p).bytes);

  std::vector<float> center;
  if (x.is_cpu()) {
    const float most = std::max(largest(p.x, p.n, p.features, "x"), largest(p.y, p.m, p.features, "y"));
    p.scale = most > 0.0f ? std::ldexp(1.0f, std::min(120, 38 - std::ilogb(most))) : 1.0f;
    center = center_of(p.y, p.m, p.features, p.scale);
    p.center = center.data();
  }
  GENFAST_RUN(pairwise, x, p);
  return {distance, index, of_x, of_y};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "pairwise(Tensor x, Tensor y, Tensor? radius_x, Tensor? radius_y, int k, bool exclude_self) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
}
GENFAST_IMPL(pairwise)
