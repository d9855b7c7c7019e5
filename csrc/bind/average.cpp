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

// The tables of AverageArgs.
struct Tables {
  std::vector<float*> averages;
  std::vector<const float*> values;
  std::vector<int64_t> sizes, strides, starts{0};

  void add(const Checker& check, const Tensor& a, const Tensor& v, int64_t lengths) {
    check.belongs(a, "averages[i]", ScalarType::Float);
    check.belongs(v, "values[i]", ScalarType::Float);
    const bool fits = a.dim() == v.dim() + 1 && a.size(0) == lengths &&
                      std::equal(v.sizes().begin(), v.sizes().end(), a.sizes().begin() + 1);
    GENFAST_CHECK(fits, "average: averages[i] must have shape (", lengths, ", *values[i].shape); got ",
                  name_of(a.sizes()), " for ", name_of(v.sizes()));
    GENFAST_CHECK(a.numel() == 0 || alike(a, v), "average: averages[i] must lie in memory as values[i] does, for each ",
                  "weight; got strides ", name_of(a.strides()), " for ", name_of(v.strides()));
    check.dense(v, "averages[i]");
    float* to = static_cast<float*>(a.data_ptr());
    const float* from = static_cast<const float*>(v.data_ptr());
    const int64_t size = v.numel(), stride = lengths > 1 ? a.stride(0) : size;
    for (int64_t k = 0; k < lengths; ++k)
      GENFAST_CHECK(to + k * stride + size <= from || from + size <= to + k * stride,
                    "average: averages[i], which is written to, must not share memory with values[i]");
    averages.push_back(to), values.push_back(from), sizes.push_back(size), strides.push_back(stride);
    starts.push_back(starts.back() + (size + kUnit - 1) / kUnit);
  }
};

}  // namespace

void average(std::vector<Written> averages, std::vector<Tensor> values, Tensor weights) {
  const Checker check("average", weights, "weights");
  const int64_t lengths = weights.size(0);
  check.table(weights, "weights", ScalarType::Float, {lengths});
  GENFAST_CHECK(values.size() == averages.size(), "average: values must be as many as averages, ",
                int64_t(averages.size()), "; got ", int64_t(values.size()));
  Tables tables;
  for (size_t i = 0; i < values.size(); ++i) try {
      tables.add(check, averages[i], values[i], lengths);
    } catch (const std::runtime_error& refusal) {  // which it was is put into words only then
      refuse(refusal.what(), " (i = ", int64_t(i), ")");
    }
  AverageArgs args{};
  args.averages = tables.averages.data(), args.values = tables.values.data();
  args.sizes = tables.sizes.data(), args.strides = tables.strides.data(), args.starts = tables.starts.data();
  args.weights = static_cast<const float*>(weights.data_ptr());
  args.lengths = lengths, args.tensors = int64_t(values.size());
  GENFAST_RUN(average, weights, args);
}

}  // namespace genfast

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("average(Tensor(a!)[] averages, Tensor[] values, Tensor weights) -> ()");
}
GENFAST_IMPL(average)
