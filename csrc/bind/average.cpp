#include "../kernels/average.h"

#include <algorithm>

#include "op.h"

namespace genfast {

namespace {

// Whether each of averages, (K, *), lies in memory as value, (*), does, apart from the others.
bool alike(const Tensor& averages, const Tensor& value) {
  for (int64_t i = 0; i < value.dim(); ++i)
    if (value.size(i) != 1 && averages.stride(i + 1) != value.stride(i)) return false;
  return averages.size(0) < 2 || averages.stride(0) >= value.numel();
}

}  // namespace

void average(std::vector<Written> averages, std::vector<Tensor> values, Tensor weights) {
  const Checker check("average", weights, "weights");
  const int64_t lengths = weights.size(0), tensors = int64_t(averages.size());
  check.table(weights, "weights", ScalarType::Float, {lengths});
  GENFAST_CHECK(values.size() == averages.size(), "average: values must be as many as averages, ", tensors, "; got ",
                int64_t(values.size()));
  std::vector<float*> to;
  std::vector<const float*> from;
  std::vector<int64_t> sizes, strides, starts{0};
  for (int64_t i = 0; i < tensors; ++i) {
    const Tensor &a = averages[size_t(i)], &v = values[size_t(i)];
    const std::string at = "[" + std::to_string(i) + "]", a_name = "averages" + at, v_name = "values" + at;
    check.belongs(a, a_name.c_str(), ScalarType::Float);
    check.belongs(v, v_name.c_str(), ScalarType::Float);
    const bool fits = a.dim() == v.dim() + 1 && a.size(0) == lengths &&
                      std::equal(v.sizes().begin(), v.sizes().end(), a.sizes().begin() + 1);
    GENFAST_CHECK(fits, "average: ", a_name, " must have shape (", lengths, ", *", v_name, ".shape); got ",
                  name_of(a.sizes()), " for ", name_of(v.sizes()));
    GENFAST_CHECK(a.numel() == 0 || alike(a, v), "average: ", a_name, " must lie in memory as ", v_name,
                  " does, for each weight; got strides ", name_of(a.strides()), " for ", name_of(v.strides()));
    check.dense(v, a_name.c_str());
    float* p = static_cast<float*>(a.data_ptr());
    const float* q = static_cast<const float*>(v.data_ptr());
    const int64_t stride = lengths > 1 ? a.stride(0) : v.numel();
    for (int64_t k = 0; k < lengths; ++k)
      GENFAST_CHECK(p + k * stride + v.numel() <= q || q + v.numel() <= p + k * stride, "average: ", a_name,
                    ", which is written to, must not share memory with ", v_name);
    to.push_back(p), from.push_back(q), sizes.push_back(v.numel()), strides.push_back(stride);
    starts.push_back(starts.back() + (v.numel() + kUnit - 1) / kUnit);
  }
  AverageArgs args{};
  args.averages = to.data(), args.values = from.data();
  args.sizes = sizes.data(), args.strides = strides.data(), args.starts = starts.data();
  args.weights = static_cast<const float*>(weights.data_ptr());
  args.lengths = lengths, args.tensors = tensors;
  GENFAST_RUN(average, weights, args);
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("average(Tensor(a!)[] averages, Tensor[] values, Tensor weights) -> ()");
}
GENFAST_IMPL(average)
