#include "isa.h"

#include <atomic>

namespace genfast {

Isa best_isa() {
#if defined(__x86_64__) && !defined(GENFAST_SCALAR)
  const auto all = [](auto... features) { return (features && ...); };
  if (all(__builtin_cpu_supports("avx512f"), __builtin_cpu_supports("avx512bw"), __builtin_cpu_supports("avx512dq"),
          __builtin_cpu_supports("avx512vl")))
    return Isa::avx512;
  if (all(__builtin_cpu_supports("avx2"), __builtin_cpu_supports("fma"), __builtin_cpu_supports("f16c")))
    return Isa::avx2;
#endif
  return Isa::scalar;
}

static std::atomic<Isa>& current() {
  static std::atomic<Isa> value = best_isa();
  return value;
}

Isa isa() { return current().load(std::memory_order_relaxed); }
void set_isa(Isa value) { current().store(value, std::memory_order_relaxed); }

}  // namespace genfast
