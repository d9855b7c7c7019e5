#pragma once
// Division by a number that is known before a kernel starts: a product and a shift take the place of the division.
#include <bit>

#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// With 2^(l-1) < d <= 2^l and m = ceil(2^(31+l) / d), of 32 bits: m d exceeds 2^(31+l) by less than d <= 2^l, so that
// n m / 2^(31+l) exceeds n / d by less than 1 / d for every n below 2^31, and both have the same floor.
class Quotient {
 public:
  static constexpr int64_t kLimit = int64_t(1) << 31;
  // For numerators from 0 to `largest`; beyond the limit one divides after all.
  Quotient(int64_t divisor, int64_t largest) : divisor_(divisor) {
    if (largest >= kLimit || divisor >= kLimit) return;
    shift_ = std::bit_width(uint64_t(divisor - 1));
    magic_ = uint32_t(((uint64_t(1) << (31 + shift_)) + divisor - 1) / divisor);
  }
  GENFAST_HD int64_t operator()(int64_t n) const {
    if (magic_ == 0) return n / divisor_;
    return uint32_t(uint64_t(uint32_t(n) * 2) * magic_ >> 32) >> shift_;
  }

 private:
  int64_t divisor_;
  uint32_t magic_ = 0;
  int shift_ = 0;
};

}  // namespace genfast::inline GENFAST_ISA
