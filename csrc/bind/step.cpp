#include "../kernels/step.h"

#include <optional>

#include "op.h"

namespace genfast {

void step(Written x, std::optional<Written> y, std::optional<Written> history, Tensor net,
          std::optional<Tensor> unconditional, std::optional<Tensor> guidance, Tensor key, Tensor row,
          Tensor coefficients, Tensor codes, Tensor streams, Tensor weights, std::optional<double> low,
          std::optional<double> high) {
  const Checker check("step", x, "x");
  const Shape& shape = check.shape();
  StepArgs args{};
  args.x = const_cast<float*>(check.floats(x, "x"));
  args.dtype = check.edge_type(net.scalar_type(), "net");
  args.net = check.data(net, "net", net.scalar_type());
  if (y) args.y = const_cast<void*>(check.data(*y, "y", net.scalar_type()));
  GENFAST_CHECK(unconditional.has_value() == guidance.has_value(), "step: unconditional and guidance go together");
  if (unconditional) {
    args.unconditional = check.data(*unconditional, "unconditional", net.scalar_type());
    args.guidance = check.per_sample(*guidance, "guidance");
  }
  args.keys = check.keys(key);
  GENFAST_CHECK(coefficients.dim() == 2, "step: coefficients must have shape (rows, ", kStepColumns, "); got ",
                name_of(coefficients.sizes()));
  args.rows = coefficients.size(0);
  GENFAST_CHECK(args.rows > 0, "step: coefficients must have at least one row");
  check.table(coefficients, "coefficients", ScalarType::Float, {args.rows, kStepColumns});
  check.table(codes, "codes", ScalarType::Int, {args.rows, kCodeColumns});
  check.table(row, "row", ScalarType::Int, {shape.batch});
  args.coefficients = static_cast<const float*>(coefficients.data_ptr());
  args.codes = static_cast<const int32_t*>(codes.data_ptr());
  GENFAST_CHECK(streams.dim() == 1, "step: streams must have shape (terms,); got ", name_of(streams.sizes()));
  args.terms = streams.size(0);
  check.table(streams, "streams", ScalarType::Int, {args.terms});
  check.table(weights, "weights", ScalarType::Float, {args.terms});
  args.streams = static_cast<const uint32_t*>(streams.data_ptr());
  args.weights = static_cast<const float*>(weights.data_ptr());
  args.row = static_cast<const int32_t*>(row.data_ptr());
  GENFAST_CHECK(reinterpret_cast<uintptr_t>(args.coefficients) % alignof(StepRow) == 0 &&
                    reinterpret_cast<uintptr_t>(args.codes) % alignof(StepCode) == 0,
                "step: coefficients and codes must be 16-byte aligned; do not slice them");
  if (history) {
    args.slots = int32_t(check.stack(*history, "history", kSlots));
    args.history = static_cast<float*>(history->data_ptr());
  }
  if (x.is_cpu()) {  // what the host can see; on a GPU a wrong row makes NaN
    for (int64_t i = 0; i < shape.batch; ++i)
      GENFAST_CHECK(args.row[i] >= 0 && args.row[i] < args.rows, "step: row[", i, "] must lie in 0 to ", args.rows - 1,
                    "; got ", args.row[i]);
    for (int64_t i = 0; i < args.rows; ++i) {
      const StepCode& code = reinterpret_cast<const StepCode*>(args.codes)[i];
      GENFAST_CHECK(0 <= code.first && code.first <= code.last && code.last <= args.terms, "step: row ", i,
                    " of the plan must have noise terms within the ", args.terms, " there are; got ", code.first,
                    " to ", code.last);
      GENFAST_CHECK(((code.reads | code.writes) >> args.slots) == 0, "step: row ", i,
                    " of the plan touches a history slot beyond the ", args.slots, " given");
    }
  }
  GENFAST_CHECK(low.has_value() == high.has_value() && (!low || *low <= *high),
                "step: clamp must be (low, high) with low <= high");
  if (low) args.clamp = true, args.low = float(*low), args.high = float(*high);
  args.shape = shape;
  check.apart({{x, "x"}, {y, "y"}, {history, "history"}}, {{net, "net"},
                                                           {unconditional, "unconditional"},
                                                           {guidance, "guidance"},
                                                           {key, "key"},
                                                           {row, "row"},
                                                           {coefficients, "coefficients"},
                                                           {codes, "codes"},
                                                           {streams, "streams"},
                                                           {weights, "weights"}});
  GENFAST_RUN(step, x, args);
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "step(Tensor(a!) x, Tensor(b!)? y, Tensor(c!)? history, Tensor net, Tensor? unconditional, Tensor? guidance,"
      " Tensor key, Tensor row, Tensor coefficients, Tensor codes, Tensor streams, Tensor weights, float? low,"
      " float? high) -> ()");
}
GENFAST_IMPL(step)
