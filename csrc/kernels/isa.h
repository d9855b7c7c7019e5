#pragma once
// Which of the CPU objects runs: chosen once from what the processor can do, or forced.
#include <cstdint>

namespace genfast {

enum class Isa : int { scalar, avx2, avx512 };

Isa best_isa();     // the widest that was built and that this processor runs
Isa isa();          // the one in use
void set_isa(Isa);  // at most best_isa()

}  // namespace genfast

// Declares the twins of an op: cpu::op(args, first, last) does a range of work(args), which stands beside its Args;
// cuda::op(args, stream) returns null or the error.
#if defined(__x86_64__) && !defined(GENFAST_SCALAR)
#define GENFAST_TWINS(op, Args)                                   \
  namespace cpu {                                                 \
  namespace scalar {                                              \
  void op(const Args&, int64_t first, int64_t last);              \
  }                                                               \
  namespace avx2 {                                                \
  void op(const Args&, int64_t first, int64_t last);              \
  }                                                               \
  namespace avx512 {                                              \
  void op(const Args&, int64_t first, int64_t last);              \
  }                                                               \
  inline void op(const Args& args, int64_t first, int64_t last) { \
    switch (isa()) {                                              \
      case Isa::avx512:                                           \
        return avx512::op(args, first, last);                     \
      case Isa::avx2:                                             \
        return avx2::op(args, first, last);                       \
      default:                                                    \
        return scalar::op(args, first, last);                     \
    }                                                             \
  }                                                               \
  }                                                               \
  namespace cuda {                                                \
  const char* op(const Args&, Stream);                            \
  }
#else
#define GENFAST_TWINS(op, Args)                      \
  namespace cpu {                                    \
  namespace scalar {                                 \
  void op(const Args&, int64_t first, int64_t last); \
  }                                                  \
  using scalar::op;                                  \
  }                                                  \
  namespace cuda {                                   \
  const char* op(const Args&, Stream);               \
  }
#endif
