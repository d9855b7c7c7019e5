#include "../kernels/dot.h"

#include "op.h"

namespace genfast {

Tensor dot(Tensor a, Tensor b) {
  const Checker check("dot", a, "a");
  const Shape& shape = check.shape();
  DotArgs args{};
  args.dtype = check.edge_type(a.scalar_type(), "a");
  args.a = a.data_ptr();
  args.b = check.data(b, "b", a.scalar_type());
  args.shape = shape;
  Tensor out = check.empty(ScalarType::Float, {shape.batch});
  args.out = static_cast<float*>(out.data_ptr());
  args.partial = partial_sums(check, a, args.out, 1);
  GENFAST_RUN(dot, a, args);
  return out;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) { m.def("dot(Tensor a, Tensor b) -> Tensor"); }
GENFAST_IMPL(dot)
