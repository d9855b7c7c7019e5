#include "../kernels/noise.h"

#include "op.h"

namespace genfast {

Tensor noise(Tensor key, std::vector<int64_t> size, int64_t stream, bool uniform, ScalarType dtype) {
  GENFAST_CHECK(key.dim() == 2, "noise: key must have shape (B, 2); got ", name_of(key.sizes()));
  int64_t count = key.size(0);
  for (int64_t n : size)
    GENFAST_CHECK(n >= 0 && !__builtin_mul_overflow(count, n, &count) && count < int64_t(1) << 60,
                  "noise: shape must not be negative, nor beyond any memory; got ", name_of(size));
  size.insert(size.begin(), key.size(0));
  Tensor out = allocate("noise", key, size, dtype);
  const Checker check("noise", out, "shape");
  NoiseArgs args{};
  args.dtype = check.edge_type(dtype, "dtype");
  args.out = out.data_ptr();
  args.distribution = uniform ? Distribution::uniform : Distribution::normal;
  args.keys = check.keys(key);
  args.stream = check.stream(stream);
  args.shape = check.shape();
  GENFAST_RUN(noise, out, args);
  return out;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("noise(Tensor key, int[] size, int stream, bool uniform, ScalarType dtype) -> Tensor");
}
GENFAST_IMPL(noise)
