#include "bias_act_body.h"
#include "map.cuh"

namespace genfast::cuda {

// A thread takes a feature of a unit, row after row.
template <class T>
__global__ void __launch_bounds__(kThreads) bias_sums_kernel(const __grid_constant__ BiasSumsArgs p) {
  const int64_t feature = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (feature >= p.shape.features) return;
  for (int64_t unit = blockIdx.y; unit < p.units(); unit += gridDim.y)
    p.parts[unit * p.shape.features + feature] =
        bias_sum<T>(p, unit, [&](const T* row) { return widen(row[feature]); });
}

const char* bias_act(const BiasActArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type_and_act(p, [&](auto type, auto act) {
    error = map(p.shape, aligned(p.x, p.y, p.bias), BiasActBody<decltype(type), decltype(act)>{p}, stream);
  });
  return error;
}

const char* bias_act_backward(const BiasActBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type_and_act(p, [&](auto type, auto act) {
    error = map(p.shape, aligned(p.x, p.grad_x, p.grad_y, p.bias),
                BiasActBackwardBody<decltype(type), decltype(act)>{p}, stream);
  });
  return error;
}

const char* bias_sums(const BiasSumsArgs& p, Stream stream) {
  if (p.shape.batch * p.shape.features == 0) return nullptr;
  const dim3 grid(unsigned((p.shape.features + kThreads - 1) / kThreads),
                  unsigned(p.units() < 65535 ? p.units() : 65535));
  with_type(p.dtype, [&](auto type) {
    GENFAST_KERNEL_LAUNCH((bias_sums_kernel<decltype(type)>), grid, dim3(kThreads), 0, stream, p);
  });
  return launch_error();
}

}  // namespace genfast::cuda
