#include "pairs.cuh"
#include "pairwise_body.h"

namespace genfast::cuda {

struct SquaredDifference {
  static __device__ float add(float sum, float x, float y) {
    const float difference = x - y;
    return fma_(difference, difference, sum);
  }
};

// 64 x 64 pairs, a bit each: which of them float32 leaves open.  They are computed in float64, a warp each.
struct Open {
  unsigned bits[kSide][2];

  __device__ void clear() {
    if (thread_of_block() < kSide) bits[thread_of_block()][0] = bits[thread_of_block()][1] = 0;
  }
  __device__ void add(int r, unsigned columns) {  // of the 4 of a thread
    if (columns) atomicOr(&bits[kEach * threadIdx.y + r][threadIdx.x / 8], columns << (kEach * (threadIdx.x % 8)));
  }
  // visit(r, c, squared distance) by one thread, for each pair of a row in order; a row is all one warp's.
  template <class Visit>
  __device__ void decide(const PairwiseArgs& p, int64_t row, int64_t column, Visit visit) const {
    const int warp = thread_of_block() / 32, lane = thread_of_block() % 32;
    for (int r = warp; r < kSide; r += kWarps) {
      if (!(bits[r][0] | bits[r][1])) continue;
      for (int c = 0; c < kSide; ++c) {
        if (!(bits[r][c / 32] >> (c % 32) & 1)) continue;
        const double d = of_warp(p.x + (row + r) * p.features, p.y + (column + c) * p.features, p.features);
        if (lane == 0) visit(r, c, d);
      }
    }
  }
  // In the order of math/pair.h: thread k and thread k + 16 have partial sum k.
  __device__ static double of_warp(const float* x, const float* y, int64_t n) {
    double sum = 0.0;
    for (int64_t d = thread_of_block() % kPartial; d < n; d += kPartial) {
      const double difference = double(x[d]) - double(y[d]);
      sum = sum + difference * difference;
    }
    GENFAST_UNROLL
    for (int distance = kPartial / 2; distance > 0; distance /= 2)
      sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
  }
};

// visit(r, c) for each pair of a thread that there is.
template <class Visit>
__device__ inline void each_pair(const PairwiseArgs& p, int64_t row, int64_t column, int64_t end, Visit visit) {
  GENFAST_UNROLL
  for (int r = 0; r < kEach; ++r) GENFAST_UNROLL
  for (int c = 0; c < kEach; ++c) {
    const int64_t i = row + kEach * threadIdx.y + r, j = column + kEach * threadIdx.x + c;
    if (i < p.n && j < end && !(p.exclude_self && i == j)) visit(r, c);
  }
}

__device__ inline void clear_list(double* distance, int64_t* index, int64_t k) {
  for (int64_t at = 0; at < k; ++at) distance[at] = double(INFINITY), index[at] = kNobody;
}

// 64 rows of x against a segment of y.  distance, index: [segments, n, k].
template <bool vector>
__global__ void __launch_bounds__(kThreads, 2)
    nearest_kernel(const __grid_constant__ PairwiseArgs p, double* distance, int64_t* index, int64_t k, int64_t span) {
  GENFAST_SHARED(Stage, stage);
  GENFAST_SHARED(Open, open);
  GENFAST_SHARED(float[kSide], farther);
  const DifferenceMargin margin(p.features);
  const int thread = thread_of_block();
  const int64_t row = int64_t(blockIdx.x) * kSide, begin = int64_t(blockIdx.y) * span;
  const int64_t end = begin + span < p.m ? begin + span : p.m, list = int64_t(blockIdx.y) * p.n + row;
  if (thread < kSide) {
    farther[thread] = INFINITY;
    if (row + thread < p.n) clear_list(distance + (list + thread) * k, index + (list + thread) * k, k);
  }
  for (int64_t column = begin; column < end; column += kSide) {
    open.clear();
    float sum[kEach][kEach] = {};
    add_pairs<SquaredDifference, vector>(p, stage, row, column, sum);
    __syncthreads();
    unsigned columns[kEach] = {};
    each_pair(p, row, column, end, [&](int r, int c) {
      const bool away = sum[r][c] > farther[kEach * threadIdx.y + r] && sum[r][c] < INFINITY;
      columns[r] |= unsigned(!away) << c;
    });
    GENFAST_UNROLL
    for (int r = 0; r < kEach; ++r) open.add(r, columns[r]);
    __syncthreads();
    open.decide(p, row, column, [&](int r, int c, double d) {
      double* distances = distance + (list + r) * k;
      insert(distances, index + (list + r) * k, k, d, column + c);
      farther[r] = margin.farther(distances[k - 1]);
    });
    __syncthreads();
  }
}

// A thread merges the lists of one row, which have `length` places.
__global__ void __launch_bounds__(kThreads, 2)
    merge_kernel(const __grid_constant__ PairwiseArgs p, int64_t segments, int64_t length) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.n) return;
  double* distance = p.distance + i * p.k;
  int64_t* index = p.index + i * p.k;
  clear_list(distance, index, p.k);
  for (int64_t s = 0; s < segments; ++s)
    for (int64_t at = 0; at < length; ++at) {
      const int64_t from = (s * p.n + i) * length + at;
      if (p.lists_index[from] != kNobody) insert(distance, index, p.k, p.lists_distance[from], p.lists_index[from]);
    }
}

// What the balls of 64 points are like, and who was counted in them.
struct Side {
  float farther[kSide], nearer[kSide];
  unsigned in[kSide], over[kSide];

  __device__ void prepare(const DifferenceMargin& margin, const double* radius, int64_t first, int64_t count) {
    const int t = thread_of_block();
    if (t >= kSide) return;
    const double squared = first + t < count ? radius_at(radius, first + t) : -1.0;
    farther[t] = margin.farther(squared), nearer[t] = margin.nearer(squared);
    in[t] = over[t] = 0;
  }
  __device__ void flush(int64_t* to_in, int64_t* to_over, int64_t first, int64_t count) const {
    const int t = thread_of_block();
    if (t >= kSide || first + t >= count) return;
    atomicAdd(reinterpret_cast<unsigned long long*>(to_in + first + t), static_cast<unsigned long long>(in[t]));
    atomicAdd(reinterpret_cast<unsigned long long*>(to_over + first + t), static_cast<unsigned long long>(over[t]));
  }
};

// 64 rows of x against a segment of y.
template <bool vector>
__global__ void __launch_bounds__(kThreads, 2) balls_kernel(const __grid_constant__ PairwiseArgs p, int64_t span) {
  GENFAST_SHARED(Stage, stage);
  GENFAST_SHARED(Open, open);
  GENFAST_SHARED(Side, of_x);
  GENFAST_SHARED(Side, of_y);
  const DifferenceMargin margin(p.features);
  const int64_t row = int64_t(blockIdx.x) * kSide, begin = int64_t(blockIdx.y) * span;
  const int64_t end = begin + span < p.m ? begin + span : p.m;
  of_x.prepare(margin, p.radius_x, row, p.n);
  const auto count = [&](int r, int c, bool in_x, bool in_y) {
    if (in_x) atomicAdd(&of_x.in[r], 1u), atomicAdd(&of_y.over[c], 1u);
    if (in_y) atomicAdd(&of_y.in[c], 1u), atomicAdd(&of_x.over[r], 1u);
  };
  for (int64_t column = begin; column < end; column += kSide) {
    of_y.prepare(margin, p.radius_y, column, p.m);
    open.clear();
    float sum[kEach][kEach] = {};
    add_pairs<SquaredDifference, vector>(p, stage, row, column, sum);
    __syncthreads();
    unsigned columns[kEach] = {};
    each_pair(p, row, column, end, [&](int r, int c) {
      const int to_r = kEach * threadIdx.y + r, to_c = kEach * threadIdx.x + c;
      const float s = sum[r][c];
      const bool in_x = s <= of_x.nearer[to_r], in_y = s <= of_y.nearer[to_c];
      const bool known = (in_x || s > of_x.farther[to_r]) && (in_y || s > of_y.farther[to_c]) && s < INFINITY;
      columns[r] |= unsigned(!known) << c;
      if (known) count(to_r, to_c, in_x, in_y);
    });
    GENFAST_UNROLL
    for (int r = 0; r < kEach; ++r) open.add(r, columns[r]);
    __syncthreads();
    open.decide(p, row, column, [&](int r, int c, double d) {
      count(r, c, d <= radius_at(p.radius_x, row + r), d <= radius_at(p.radius_y, column + c));
    });
    __syncthreads();
    of_y.flush(p.in_y, p.over_y, column, p.m);
    __syncthreads();
  }
  of_x.flush(p.in_x, p.over_x, row, p.n);
}

const char* pairwise(const PairwiseArgs& p, Stream stream) {
  if (p.n == 0 || p.m == 0) return nullptr;
  const int64_t span = segment_span(p.n, p.m), segments = (p.m + span - 1) / span;
  const dim3 grid(unsigned(tiles(p.n)), unsigned(segments)), block(kAcross, kAcross);
  const bool vector = aligned(p.x, p.y) && p.features % 4 == 0;
  if (p.k == 0) {
    if (vector)
      GENFAST_KERNEL_LAUNCH((balls_kernel<true>), grid, block, 0, stream, p, span);
    else
      GENFAST_KERNEL_LAUNCH((balls_kernel<false>), grid, block, 0, stream, p, span);
    return launch_error();
  }
  double* distance = segments > 1 ? p.lists_distance : p.distance;
  int64_t* index = segments > 1 ? p.lists_index : p.index;
  const int64_t length = segments > 1 && span < p.k ? span : p.k;
  if (vector)
    GENFAST_KERNEL_LAUNCH((nearest_kernel<true>), grid, block, 0, stream, p, distance, index, length, span);
  else
    GENFAST_KERNEL_LAUNCH((nearest_kernel<false>), grid, block, 0, stream, p, distance, index, length, span);
  if (const char* error = launch_error()) return error;
  if (segments > 1)
    GENFAST_KERNEL_LAUNCH(merge_kernel, dim3(unsigned((p.n + kThreads - 1) / kThreads)), dim3(kThreads), 0, stream, p,
                          segments, length);
  return launch_error();
}

}  // namespace genfast::cuda
