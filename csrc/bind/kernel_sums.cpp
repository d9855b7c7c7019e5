#include "../kernels/kernel_sums.h"

#include "op.h"

namespace genfast {

std::tuple<Tensor, Tensor> kernel_sums(Tensor x, Tensor y, bool rbf, double gamma, double offset, bool exclude_self) {
  const Checker check("kernel_sums", x, "x");
  KernelSumsArgs p{};
  GENFAST_CHECK(x.dim() == 2, "kernel_sums: x must have shape (N, D); got ", name_of(x.sizes()));
  GENFAST_CHECK(y.dim() == 2, "kernel_sums: y must have shape (M, D); got ", name_of(y.sizes()));
  p.n = x.size(0), p.m = y.size(0), p.features = x.size(1);
  check.table(x, "x", ScalarType::Float, {p.n, p.features});
  check.table(y, "y", ScalarType::Float, {p.m, p.features});
  p.x = static_cast<const float*>(x.data_ptr()), p.y = static_cast<const float*>(y.data_ptr());
  p.kernel = rbf ? PairKernel::rbf : PairKernel::polynomial;
  GENFAST_CHECK(std::isfinite(gamma) && (!rbf || gamma >= 0), "kernel_sums: gamma must be finite",
                rbf ? " and not negative" : "", "; got ", gamma);
  GENFAST_CHECK(std::isfinite(offset), "kernel_sums: offset must be finite; got ", offset);
  GENFAST_CHECK(!exclude_self || p.n == p.m, "kernel_sums: y must have as many points as x with exclude_self, ", p.n,
                "; got ", p.m);
  p.gamma = gamma, p.offset = offset, p.exclude_self = exclude_self;
  Tensor first = check.empty(ScalarType::Double, {p.n}), second = check.empty(ScalarType::Double, {p.n});
  p.first = static_cast<double*>(first.data_ptr()), p.second = static_cast<double*>(second.data_ptr());
  const int64_t segments = kernel_segments(p.m);
  if (runs_cuda_twin(x) && segments > 1) p.partial = check.scratch<double>(2 * segments * p.n);
  GENFAST_RUN(kernel_sums, x, p);
  return {first, second};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("kernel_sums(Tensor x, Tensor y, bool rbf, float gamma, float offset, bool exclude_self) -> (Tensor, Tensor)");
}
GENFAST_IMPL(kernel_sums)
