#include "../kernels/dropout.h"

#include "op.h"

namespace genfast {

Tensor dropout(Tensor x, Tensor key, double p, int64_t stream) {
  const Checker check("dropout", x, "x");
  DropoutArgs args{};
  args.dtype = check.edge_type(x.scalar_type(), "x");
  args.x = x.data_ptr();
  args.p = check.number(p, "p", 0, 1 - 0x1p-24);  // the largest float32 below 1
  args.scale = float(1 / (1 - p));
  args.keys = check.keys(key);
  args.stream = check.stream(stream);
  args.shape = check.shape();
  Tensor y = check.empty(x.scalar_type());
  args.y = y.data_ptr();
  GENFAST_RUN(dropout, x, args);
  return y;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) { m.def("dropout(Tensor x, Tensor key, float p, int stream) -> Tensor"); }
GENFAST_IMPL(dropout)
