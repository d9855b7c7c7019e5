#include "../kernels/dynamic_threshold.h"

#include "op.h"

namespace genfast {

Tensor dynamic_threshold(Tensor d, double quantile, double bound, double limit) {
  const Checker check("dynamic_threshold", d, "D");
  DynamicThresholdArgs args{};
  args.d = check.floats(d, "D");
  // The order of the elements in memory does not matter.
  args.shape = {check.shape().batch, check.shape().features, 1};
  GENFAST_CHECK(args.shape.features <= int64_t(1) << 31,
                "dynamic_threshold: D must have at most 2^31 elements a sample; got ", args.shape.features);
  GENFAST_CHECK(quantile >= 0 && quantile <= 1, "dynamic_threshold: quantile must lie in [0, 1]; got ", quantile);
  args.quantile = quantile;
  args.bound = check.number(bound, "bound", 0, std::numeric_limits<float>::max(), true);
  args.limit = check.number(limit, "limit", args.bound, INFINITY);
  Tensor out = check.empty(ScalarType::Float);
  args.out = static_cast<float*>(out.data_ptr());
  args.threshold = check.scratch<float>(args.shape.batch);
  GENFAST_RUN(dynamic_threshold, d, args);
  return out;
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("dynamic_threshold(Tensor D, float quantile, float bound, float limit) -> Tensor");
}
GENFAST_IMPL(dynamic_threshold)
