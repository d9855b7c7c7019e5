#include "dot_body.h"
#include "reduce.h"

namespace genfast::cpu::GENFAST_ISA {

template <class T>
static float dot_of_row(const T* a, const T* b, int64_t features) {
  float total[1];
  sum_row(features, total, [=](const auto& lane) { return Terms<Floats>{lane.load(a) * lane.load(b)}; });
  return *total;
}

// Contiguous rows are taken in the order of memory, all their accumulators in registers.
void dot(const DotArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    if (p.shape.channels != 1) return reduce(p.shape, first, last, DotBody<T>{p});
    const int64_t n = p.shape.features;
    for (int64_t row = first; row < last; ++row)
      p.out[row] = dot_of_row(static_cast<const T*>(p.a) + row * n, static_cast<const T*>(p.b) + row * n, n);
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
