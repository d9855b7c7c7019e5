#include "../kernels/glu.h"

#include <algorithm>
#include <vector>

#include "op.h"

namespace genfast {

// x (*, 2 D), contiguous: the sizes of y (*, D), and it as rows.
struct Halved {
  std::vector<int64_t> sizes;
  Shape shape{1, 0, 1};
  DType dtype;
  Halved(const char* op, const Tensor& x) : dtype(Checker(op, x, "x").edge_type(x.scalar_type(), "x")) {
    GENFAST_CHECK(x.size(-1) % 2 == 0, op, ": the last dimension of x must be even; got ", name_of(x.sizes()));
    GENFAST_CHECK(x.is_contiguous(), op, ": x must be contiguous; got strides ", name_of(x.strides()));
    for (int64_t i = 0; i < x.dim() - 1; ++i) sizes.push_back(x.size(i)), shape.batch *= x.size(i);
    shape.features = x.size(-1) / 2;
    sizes.push_back(shape.features);
  }
};

Tensor glu(Tensor x, bool swiglu) {
  const Halved y("glu", x);
  Tensor out = allocate("glu", x, y.sizes, x.scalar_type());
  const GluArgs args{out.data_ptr(), x.data_ptr(), y.dtype, swiglu ? Glu::swiglu : Glu::geglu, y.shape};
  GENFAST_RUN(glu, x, args);
  return out;
}

Tensor glu_backward(Tensor x, Tensor grad_y, bool swiglu) {
  const Halved y("glu_backward", x);
  const Checker check("glu_backward", grad_y, "grad_y");
  check.data(grad_y, "grad_y", x.scalar_type());
  GENFAST_CHECK(std::ranges::equal(grad_y.sizes(), y.sizes) && grad_y.is_contiguous() && x.device() == grad_y.device(),
                "glu_backward: grad_y must be contiguous of shape ", name_of(y.sizes), " on the device of x; got ",
                name_of(grad_y.sizes()), " with strides ", name_of(grad_y.strides()));
  Tensor out = allocate("glu_backward", x, x.sizes(), x.scalar_type());
  const GluBackwardArgs args{
      out.data_ptr(), x.data_ptr(), grad_y.data_ptr(), y.dtype, swiglu ? Glu::swiglu : Glu::geglu, y.shape};
  GENFAST_RUN(glu_backward, x, args);
  return out;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("glu(Tensor x, bool swiglu) -> Tensor");
  m.def("glu_backward(Tensor x, Tensor grad_y, bool swiglu) -> Tensor");
}
GENFAST_IMPL(glu)
GENFAST_IMPL(glu_backward)
