#include "../kernels/runge_kutta.h"

#include <optional>
#include <tuple>

#include "op.h"

namespace genfast {

std::tuple<Tensor, Tensor> runge_kutta(Tensor x, Tensor k, Tensor c, std::optional<Tensor> error, double rtol,
                                       double atol) {
  const Checker check("runge_kutta", x, "x");
  const Shape& shape = check.shape();
  RungeKuttaArgs args{};
  args.x = check.floats(x, "x");
  args.stages = int32_t(check.stack(k, "k", 7));
  args.k = static_cast<const float*>(k.data_ptr());
  check.table(c, "c", ScalarType::Float, {shape.batch, args.stages});
  args.c = static_cast<const float*>(c.data_ptr());
  if (error) {
    check.table(*error, "error", ScalarType::Float, {shape.batch, args.stages});
    args.error = static_cast<const float*>(error->data_ptr());
  }
  args.rtol = check.number(rtol, "rtol", 0, std::numeric_limits<float>::max());
  args.atol = check.number(atol, "atol", 0, std::numeric_limits<float>::max(), true);
  args.shape = shape;
  Tensor out = check.empty(ScalarType::Float);
  Tensor err = error ? check.empty(ScalarType::Float, {shape.batch}) : check.nothing(ScalarType::Float);
  args.out = static_cast<float*>(out.data_ptr());
  args.err = static_cast<float*>(err.data_ptr());
  if (error) args.partial = partial_sums(check, x, args.err, 1);
  GENFAST_RUN(runge_kutta, x, args);
  return {out, err};
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("runge_kutta(Tensor x, Tensor k, Tensor c, Tensor? error, float rtol, float atol) -> (Tensor, Tensor)");
}
GENFAST_IMPL(runge_kutta)
