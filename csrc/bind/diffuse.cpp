#include "../kernels/diffuse.h"

#include <optional>
#include <tuple>

#include "op.h"

namespace genfast {

std::tuple<Tensor, Tensor> diffuse(Tensor x0, Tensor key, Tensor alpha, Tensor sigma, std::optional<Tensor> c_in,
                                   std::optional<Tensor> p, std::optional<Tensor> q, int64_t stream, ScalarType dtype) {
  const Checker check("diffuse", x0, "x0");
  GENFAST_CHECK(p.has_value() == q.has_value(), "diffuse: p and q go together");
  DiffuseArgs args{};
  args.x0 = check.floats(x0, "x0");
  args.keys = check.keys(key);
  args.alpha = check.per_sample(alpha, "alpha");
  args.sigma = check.per_sample(sigma, "sigma");
  if (c_in) args.c_in = check.per_sample(*c_in, "c_in");
  if (p) args.p = check.per_sample(*p, "p"), args.q = check.per_sample(*q, "q");
  args.dtype = check.edge_type(dtype, "dtype");
  args.stream = check.stream(stream);
  args.shape = check.shape();
  Tensor y = check.empty(dtype);
  Tensor target = p ? check.empty(ScalarType::Float) : check.nothing(ScalarType::Float);
  args.y = y.data_ptr();
  args.target = static_cast<float*>(target.data_ptr());
  GENFAST_RUN(diffuse, x0, args);
  return {y, target};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "diffuse(Tensor x0, Tensor key, Tensor alpha, Tensor sigma, Tensor? c_in, Tensor? p, Tensor? q, int stream,"
      " ScalarType dtype) -> (Tensor, Tensor)");
}
GENFAST_IMPL(diffuse)
