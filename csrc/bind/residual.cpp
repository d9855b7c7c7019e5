#include "../kernels/residual.h"

#include <optional>

#include "op.h"

namespace genfast {

// Without a bias a sample is a row; with one, what has one number of it: a channel of a sample, or, channels-last, all
// channels of a pixel.
Tensor residual(Tensor x, Tensor y, std::optional<Tensor> bias, double scale) {
  const Checker check("residual", x, "x");
  ResidualArgs args{};
  args.channels = 1;
  args.dtype = check.edge_type(x.scalar_type(), "x");
  args.x = x.data_ptr();
  args.y = check.data(y, "y", x.scalar_type());
  constexpr double most = std::numeric_limits<float>::max();
  args.scale = float(check.number(scale, "scale", -most, most));
  args.shape = {check.shape().batch, check.shape().features, 1};
  if (bias) {
    GENFAST_CHECK(x.dim() >= 2, "residual: with a bias x must have shape (B, C, *); got ", name_of(x.sizes()));
    const Small of_channel = check.small(bias, "bias", x.size(1), false);
    const int64_t channels = x.size(1), samples = x.size(0) * channels, pixels = samples ? x.numel() / samples : 0;
    const bool last = check.shape().channels > 1 || pixels == 1;
    (last ? args.bias : args.row_bias) = of_channel;
    args.shape = last ? Shape{x.size(0) * pixels, channels, 1} : Shape{samples, pixels, 1};
    if (channels > 0) args.channels = channels;
  }
  Tensor out = check.empty(x.scalar_type());
  args.out = out.data_ptr();
  GENFAST_RUN(residual, x, args);
  return out;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("residual(Tensor x, Tensor y, Tensor? bias, float scale) -> Tensor");
}
GENFAST_IMPL(residual)
