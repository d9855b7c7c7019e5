#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

enum class PairKernel : int32_t { polynomial, rbf };

// Sums over j of k(x_i, y_j) and of its square.  polynomial: (gamma x.y + offset)^3, rbf: exp(-gamma |x - y|^2).
struct KernelSumsArgs {
  double *first, *second;  // [n]
  double* partial;         // [2, segments, n] scratch of the CUDA twin
  const float *x, *y;      // [n, features], [m, features]
  PairKernel kernel;
  double gamma, offset;
  int64_t n, m, features;
  bool exclude_self;  // i = j is left out
};
inline Work work(const KernelSumsArgs& p) { return {p.n, 64}; }

// The columns are summed in segments, whose sums are added in order.
constexpr int64_t kSegment = 4096;
inline int64_t kernel_segments(int64_t m) { return m > kSegment ? (m + kSegment - 1) / kSegment : 1; }

GENFAST_TWINS(kernel_sums, KernelSumsArgs)

}  // namespace genfast
