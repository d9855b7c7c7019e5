#pragma once
#include "affine_gradients_body.h"
#include "launch.cuh"

namespace genfast::cuda {

// A block takes 32 features, a warp a part of the samples.
static __global__ void __launch_bounds__(32 * kSampleParts)
    affine_gradients_kernel(const __grid_constant__ AffineGradientsArgs p) {
  GENFAST_SHARED(float[2][kSampleParts][32], parts);
  const int64_t feature = blockIdx.x * int64_t(32) + threadIdx.x;
  const bool inside = feature < p.features;
  float to_weight = 0.0f, to_bias = 0.0f;
  if (inside)
    affine_part(
        p, threadIdx.y, [&](const float* row) { return row[feature]; },
        [&](float* row, float value) { row[feature] = value; }, to_weight, to_bias);
  parts[0][threadIdx.y][threadIdx.x] = to_weight, parts[1][threadIdx.y][threadIdx.x] = to_bias;
  __syncthreads();
  if (threadIdx.y != 0 || !inside) return;
  float total[2] = {};
  for (int part = 0; part < kSampleParts; ++part)
    for (int i = 0; i < 2; ++i) total[i] = total[i] + parts[i][part][threadIdx.x];
  if (p.to_weight) p.to_weight[feature] = total[0];
  if (p.to_bias) p.to_bias[feature] = total[1];
}

inline const char* launch_affine_gradients(const AffineGradientsArgs& p, Stream stream) {
  if (p.features == 0) return nullptr;
  GENFAST_KERNEL_LAUNCH(affine_gradients_kernel, dim3(unsigned((p.features + 31) / 32)), dim3(32, kSampleParts), 0,
                        stream, p);
  return launch_error();
}

}  // namespace genfast::cuda
