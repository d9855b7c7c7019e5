#pragma once
// The distance of one pair, by a warp.
#include "../math/pair_margin.h"
#include "launch.cuh"
#include "pairwise_body.h"

namespace genfast::inline GENFAST_ISA {

__device__ inline float sum_of_warp(float v) {
  GENFAST_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) v = v + __shfl_xor_sync(0xffffffffu, v, distance);
  return v;
}

// |x - y|^2 in float32: of points that lie close together it says more than products of rounded numbers do.
__device__ inline float roughly(const float* x, const float* y, int64_t n) {
  constexpr int ahead = 4;
  float sum[ahead] = {};
  int64_t d = threadIdx.x % 32;
  const auto add = [&](float& to, float a, float b) { to = fma_(a - b, a - b, to); };
  for (; d + (ahead - 1) * 32 < n; d += ahead * 32) {
    GENFAST_UNROLL
    for (int i = 0; i < ahead; ++i) add(sum[i], x[d + i * 32], y[d + i * 32]);
  }
  for (; d < n; d += 32) add(sum[0], x[d], y[d]);
  return sum_of_warp((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// |x - y|^2 in float64, in the order of math/pair.h, by each half of a warp, whose thread k has partial sum k.  x and y
// may differ from half to half.
__device__ inline double exactly(const float* x, const float* y, int64_t n) {
  constexpr int ahead = 16;  // loads under way
  double sum = 0.0;
  int64_t d = threadIdx.x % kPartial;
  const auto add = [&](float a, float b) {
    const double difference = double(a) - double(b);
    sum = sum + difference * difference;
  };
  for (; d + (ahead - 1) * kPartial < n; d += ahead * kPartial) {
    float a[ahead], b[ahead];
    GENFAST_UNROLL
    for (int i = 0; i < ahead; ++i) a[i] = x[d + i * kPartial], b[i] = y[d + i * kPartial];
    GENFAST_UNROLL
    for (int i = 0; i < ahead; ++i) add(a[i], b[i]);
  }
  for (; d < n; d += kPartial) add(x[d], y[d]);
  GENFAST_UNROLL
  for (int distance = kPartial / 2; distance > 0; distance /= 2)
    sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;
}

}  // namespace genfast::inline GENFAST_ISA
