#include "../kernels/langevin.h"

#include <optional>

#include "op.h"

namespace genfast {

void langevin(Written x, Tensor net, Tensor key, Tensor alpha, Tensor sigma, Tensor snr, Tensor c_skip, Tensor c_out,
              int64_t stream, std::optional<Written> y, std::optional<Tensor> c_in, std::optional<Tensor> unconditional,
              std::optional<Tensor> guidance) {
  const Checker check("langevin", x, "x");
  const Shape& shape = check.shape();
  LangevinArgs args{};
  args.x = const_cast<float*>(check.floats(x, "x"));
  args.dtype = check.edge_type(net.scalar_type(), "net");
  args.net = check.data(net, "net", net.scalar_type());
  if (y) args.y = const_cast<void*>(check.data(*y, "y", net.scalar_type()));
  GENFAST_CHECK(unconditional.has_value() == guidance.has_value(), "langevin: unconditional and guidance go together");
  if (unconditional) {
    args.unconditional = check.data(*unconditional, "unconditional", net.scalar_type());
    args.guidance = check.per_sample(*guidance, "guidance");
  }
  args.keys = check.keys(key);
  args.stream = check.stream(stream);
  args.alpha = check.per_sample(alpha, "alpha");
  args.sigma = check.per_sample(sigma, "sigma");
  args.snr = check.per_sample(snr, "snr");
  args.c_skip = check.per_sample(c_skip, "c_skip");
  args.c_out = check.per_sample(c_out, "c_out");
  if (c_in) args.c_in = check.per_sample(*c_in, "c_in");
  args.shape = shape;
  check.apart({{x, "x"}, {y, "y"}}, {{net, "net"},
                                     {unconditional, "unconditional"},
                                     {guidance, "guidance"},
                                     {key, "key"},
                                     {alpha, "alpha"},
                                     {sigma, "sigma"},
                                     {snr, "snr"},
                                     {c_skip, "c_skip"},
                                     {c_out, "c_out"},
                                     {c_in, "c_in"}});
  args.gains = check.scratch<float>(2 * shape.batch);
  args.partial = partial_sums(check, x, args.gains, 2);
  GENFAST_RUN(langevin, x, args);
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "langevin(Tensor(a!) x, Tensor net, Tensor key, Tensor alpha, Tensor sigma, Tensor snr, Tensor c_skip,"
      " Tensor c_out, int stream, Tensor(b!)? y, Tensor? c_in, Tensor? unconditional, Tensor? guidance) -> ()");
}
GENFAST_IMPL(langevin)
