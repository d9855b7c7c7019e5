#include "../kernels/noise.h"

#include "check.h"

namespace genfast {

Tensor noise(Tensor key, std::vector<int64_t> size, int64_t stream, bool uniform, ScalarType dtype) {
  STD_TORCH_CHECK(key.dim() == 2, "noise: key must have shape (B, 2); got ", name_of(key.sizes()));
  for (int64_t n : size) STD_TORCH_CHECK(n >= 0, "noise: shape must not be negative; got ", name_of(size));
  size.insert(size.begin(), key.size(0));
  Tensor out = torch::stable::empty(size, dtype, std::nullopt, key.device());
  const Checker check("noise", out, "shape");
  NoiseArgs args{};
  args.out = out.data_ptr();
  args.dtype = check.edge_type(dtype, "dtype");
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
