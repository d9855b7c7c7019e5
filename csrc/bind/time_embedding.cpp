#include "../kernels/time_embedding.h"

#include "op.h"

namespace genfast {

Tensor time_embedding(Tensor t, Tensor frequencies, int64_t width, bool flip, ScalarType dtype) {
  const Checker check("time_embedding", t, "t");
  TimeEmbeddingArgs args{};
  args.batch = check.shape().batch, args.count = frequencies.numel(), args.width = width, args.flip = flip;
  check.table(t, "t", ScalarType::Double, {args.batch});
  check.table(frequencies, "frequencies", ScalarType::Double, {args.count});
  GENFAST_CHECK(width >= 2 * args.count, "time_embedding: dim must be at least ", 2 * args.count,
                ", a sine and a cosine for each frequency; got ", width);
  GENFAST_CHECK(width < int64_t(1) << 40, "time_embedding: dim must be below 2^40; got ", width);
  args.dtype = check.edge_type(dtype, "dtype");
  args.t = static_cast<const double*>(t.data_ptr());
  args.frequencies = static_cast<const double*>(frequencies.data_ptr());
  Tensor out = check.empty(dtype, {args.batch, width});
  args.out = out.data_ptr();
  GENFAST_RUN(time_embedding, t, args);
  return out;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("time_embedding(Tensor t, Tensor frequencies, int width, bool flip, ScalarType dtype) -> Tensor");
}
GENFAST_IMPL(time_embedding)
