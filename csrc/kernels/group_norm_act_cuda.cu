#include <type_traits>

#include "columns.cuh"
#include "group_norm_act_body.h"
#include "reduce.cuh"

namespace genfast::cuda {

// The activation is chosen at run time: a uniform branch costs nothing beside memory, four times the kernels would.
struct AnyActivation {
  int which;
  template <class Function>
  GENFAST_HD float apply(Function f) const {
    switch (Activation(which)) {
      case Activation::silu:
        return f(Silu{});
      case Activation::gelu:
        return f(Gelu{});
      case Activation::gelu_tanh:
        return f(GeluTanh{});
      default:
        return f(Identity{});
    }
  }
  GENFAST_HD float value(float u) const {
    return apply([&](auto act) { return act.value(u); });
  }
  GENFAST_HD float slope(float u) const {
    return apply([&](auto act) { return act.slope(u); });
  }
};

// A thread visits one group of one sample: visit(n, group).
template <class Visit>
__global__ void __launch_bounds__(kThreads)
    groups_kernel(const __grid_constant__ Visit visit, int64_t batch, int64_t groups) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < batch * groups; i += int64_t(gridDim.x) * kThreads)
    visit(i / groups, i % groups);
}

template <class Visit>
static const char* each_group(const GroupNorm& p, const Visit& visit, Stream stream) {
  GENFAST_KERNEL_LAUNCH((groups_kernel<Visit>), dim3(blocks_for(p.maps.batch * p.groups, kThreads)), dim3(kThreads), 0,
                        stream, visit, p.maps.batch, p.groups);
  return launch_error();
}

template <class T>
struct Start {
  GroupNorm p;
  GENFAST_HD void operator()(int64_t n, int64_t group) const { set_pivot<T>(p, n, group); }
};
template <class Args>
struct Finish {
  Args args;
  GENFAST_HD void operator()(int64_t n, int64_t group) const { finish_group(args, n, group); }
};

template <class Summing>
static const char* sum(const Summing& pass, bool are_aligned, Stream stream) {
  const GroupNorm& p = pass.p.norm;
  if (!p.maps.last) return reduce(rows_of(p.maps), are_aligned, Planar<Summing>{pass}, p.partial, stream);
  if (are_aligned && p.maps.channels % 8 == 0) return sum_columns<Summing, true>(pass, stream);
  return sum_columns<Summing, false>(pass, stream);
}

template <class Mapping>
static const char* apply(const Mapping& pass, bool are_aligned, Stream stream) {
  const Maps& maps = pass.p.norm.maps;
  if (!maps.last) return map(rows_of(maps), are_aligned, Planar<Mapping>{pass}, stream);
  if (are_aligned && maps.channels % 8 == 0) return map_columns<Mapping, true>(pass, stream);
  return map_columns<Mapping, false>(pass, stream);
}

template <class Summing, class Mapping, class Args>
static const char* run(const Args& args, bool are_aligned, const Summing& summing, const Mapping& mapping,
                       Stream stream) {
  const GroupNorm& p = args.norm;
  if (p.maps.batch * p.maps.channels * p.maps.pixels == 0) return nullptr;
  if constexpr (std::is_same_v<Args, GroupNormActArgs>)
    if (const char* error = each_group(p, Start<typename Summing::Type>{p}, stream)) return error;
  if (const char* error = sum(summing, are_aligned, stream)) return error;
  if (const char* error = each_group(p, Finish<Args>{args}, stream)) return error;
  return apply(mapping, are_aligned, stream);
}

const char* group_norm_act(const GroupNormActArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    const AnyActivation act{p.norm.activation};
    error = run(p, aligned(p.norm.x, p.y), Moments<T>{p}, Apply<T, AnyActivation>{p, act}, stream);
  });
  return error;
}

const char* group_norm_act_backward(const GroupNormActBackwardArgs& p, Stream stream) {
  const char* error = nullptr;
  with_type(p.norm.dtype, [&](auto type) {
    using T = decltype(type);
    const AnyActivation act{p.norm.activation};
    error = run(p, aligned(p.norm.x, p.dy, p.dx), Slopes<T, AnyActivation>{p, act}, Gradient<T, AnyActivation>{p, act},
                stream);
  });
  return error;
}

}  // namespace genfast::cuda
