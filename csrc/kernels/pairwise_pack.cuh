#pragma once
// Points as tensor cores want them: float16, each point by a power of two of its own, in tiles of 128 points and 32
// features that a block copies into its shared memory as they lie.
#include "../math/number.h"
#include "pairwise_exact.cuh"

namespace genfast::inline GENFAST_ISA {

constexpr int kTile = 128, kUnit = PairwiseMemory::kUnit;  // points, features
constexpr int kTileQuads = kTile * kUnit / 8;              // 16 bytes each: 8 KiB

// Where features 8 c to 8 c + 7 of point r lie in a tile: no two of eight neighboring points in the same banks.
__device__ inline int quad_of(int r, int c) { return 4 * r + (c ^ (r >> 1 & 3)); }

// A part of one of the sets.
struct Part {
  const float* points;
  const double* radius;
  uint4* tiles;
  Point* of;
  Ball* balls;
  unsigned* counts;           // set to zero, where there are any
  int64_t first, size, step;  // of the set, whose points are taken in the order (first + q) step mod size
  int count;                  // points of the part
  bool nearest, vector;

  __device__ int64_t index(int64_t q) const { return (first + q) * step % size; }
};

__device__ inline float largest_of_warp(float v) {
  GENFAST_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, distance));
  return v;
}
__device__ inline bool is_finite(float v) { return fabsf(v) < INFINITY; }

// The largest finite magnitude of x and y, a part of them a block.
__global__ void __launch_bounds__(kThreads) largest_kernel(const __grid_constant__ PairwiseArgs p, float* parts) {
  GENFAST_SHARED(float[kWarps], of_warp);
  float largest = 0.0f;
  const int64_t threads = int64_t(gridDim.x) * kThreads;
  const auto take = [&](const float* points, int64_t count) {
    int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    for (; e + 7 * threads < count; e += 8 * threads) {
      GENFAST_UNROLL
      for (int i = 0; i < 8; ++i) {
        const float v = points[e + i * threads];
        largest = fmaxf(largest, is_finite(v) ? fabsf(v) : 0.0f);
      }
    }
    for (; e < count; e += threads) largest = fmaxf(largest, is_finite(points[e]) ? fabsf(points[e]) : 0.0f);
  };
  take(p.x, p.n * p.features), take(p.y, p.m * p.features);
  largest = largest_of_warp(largest);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kWarps; ++i) largest = fmaxf(largest, of_warp[i]);
  parts[blockIdx.x] = largest;
}

// scale, a power of two that brings the largest magnitude to 2^38, and the mean of up to 64 of y, times that.
__global__ void __launch_bounds__(kThreads) center_kernel(const __grid_constant__ PairwiseArgs p, const float* parts,
                                                          int count_of_parts, float* scale, float* center) {
  constexpr int64_t samples = 64;
  float largest = 0.0f;
  for (int i = int(threadIdx.x % 32); i < count_of_parts; i += 32) largest = fmaxf(largest, parts[i]);
  largest = largest_of_warp(largest);
  const int exponent = int(std::bit_cast<uint32_t>(largest) >> 23) - 127;  // -127 for what is subnormal
  const int power = largest > 0.0f ? (38 - exponent < 120 ? 38 - exponent : 120) : 0;
  const float by = std::bit_cast<float>(uint32_t(power + 127) << 23);
  if (blockIdx.x == 0 && threadIdx.x == 0) *scale = by;
  const int64_t d = int64_t(blockIdx.x) * kThreads + threadIdx.x, step = (p.m + samples - 1) / samples;
  if (d >= p.features) return;
  double sum = 0.0;
  int count = 0;
  GENFAST_UNROLL
  for (int i = 0; i < samples; ++i) {
    const float v = i * step < p.m ? p.y[i * step * p.features + d] : INFINITY;
    if (is_finite(v)) sum = sum + double(v), ++count;
  }
  center[d] = count > 0 ? float(sum * (double(by) / count)) : 0.0f;
}

// A warp a point; those that only fill a tile are zero.
class Packer {
 public:
  __device__ Packer(const Part& part, int64_t features, float scale, const float* center, int64_t q)
      : part_(part), features_(features), scale_(scale), center_(center), q_(q) {}

  __device__ void run() const {
    const bool there = q_ < part_.count;
    const int64_t j = there ? part_.index(q_) : 0;
    const float* from = part_.points + j * features_;
    const int64_t units = (features_ + kUnit - 1) / kUnit, quads = units * (kUnit / 8);
    uint4* tile = part_.tiles + q_ / kTile * units * kTileQuads;
    float largest = 0.0f, v[8];
    bool finite = there;
    for (int64_t quad = lane(); there && quad < quads; quad += 32) {
      load(from, quad, v);
      GENFAST_UNROLL
      for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(v[i])), finite = finite && is_finite(v[i]);
    }
    finite = largest_of_warp(finite ? 0.0f : 1.0f) == 0.0f;
    largest = largest_of_warp(largest);
    // In [2^14, 2^15) after it, where that is not far below all others.
    const int exponent = int(std::bit_cast<uint32_t>(largest) >> 23) - 127,
              power = exponent < -100 ? -114 : exponent - 14;
    const float up = std::bit_cast<float>(uint32_t(127 - power) << 23),
                down = std::bit_cast<float>(uint32_t(127 + power) << 23);
    float square = 0.0f, error = 0.0f;
    for (int64_t quad = lane(); quad < quads; quad += 32) {
      uint16_t bits[8] = {};
      if (finite) {
        load(from, quad, v);
        GENFAST_UNROLL
        for (int i = 0; i < 8; ++i) {
          Half half;
          narrow(v[i] * up, half);
          const float b = widen(half) * down, off = v[i] - b;
          square = square + b * b, error = error + off * off;
          bits[i] = half.bits;
        }
      }
      const auto both = [&](int i) { return unsigned(bits[i]) | unsigned(bits[i + 1]) << 16; };
      const int64_t at = quad / 4 * kTileQuads + quad_of(int(q_ % kTile), int(quad % 4));
      tile[at] = {both(0), both(2), both(4), both(6)};
    }
    square = sum_of_warp(square), error = sum_of_warp(error);
    if (lane() > 0) return;
    const PairMargin margin(features_, scale_);
    const Rounded rounded = margin.rounded(square, error);
    const Point point = margin.point({rounded.square, finite ? rounded.error : INFINITY}, down);
    const double reach = part_.nearest ? double(INFINITY) : margin.reach(there ? radius_at(part_.radius, j) : -1.0);
    part_.of[q_] = point, part_.balls[q_] = margin.ball(reach, point);
    if (part_.counts) part_.counts[q_] = 0;
  }

 private:
  static __device__ int lane() { return int(threadIdx.x % 32); }

  // Eight features, times `scale` less the center, rounded once; zero behind the last one.
  __device__ void load(const float* from, int64_t quad, float (&v)[8]) const {
    struct alignas(16) Four {
      float v[4];
    };
    const int64_t first = 8 * quad;
    GENFAST_UNROLL
    for (int part = 0; part < 8; part += 4) {
      if (part_.vector) {
        const bool there = first + part < features_;
        const Four four = there ? *reinterpret_cast<const Four*>(from + first + part) : Four{};
        GENFAST_UNROLL
        for (int i = 0; i < 4; ++i) v[part + i] = there ? fma_(scale_, four.v[i], -center_[first + part + i]) : 0.0f;
      } else {
        GENFAST_UNROLL
        for (int i = part; i < part + 4; ++i)
          v[i] = first + i < features_ ? fma_(scale_, from[first + i], -center_[first + i]) : 0.0f;
      }
    }
  }

  const Part& part_;
  const int64_t features_;
  const float scale_;
  const float* center_;
  const int64_t q_;
};

__global__ void __launch_bounds__(kThreads)
    pack_kernel(const __grid_constant__ Part part, int64_t features, const float* scale, const float* center) {
  Packer(part, features, *scale, center, int64_t(blockIdx.x) * kWarps + threadIdx.x / 32).run();
}

}  // namespace genfast::inline GENFAST_ISA
