#pragma once
// Division by a number that is known before a kernel starts: a product and a shift take the place of the division.
#include <bit>

#include "lane.h"

namespace genfast::inline GENFAST_ISA {

// With 2^(l-1) < d <= 2^l and m = ceil(2^(63+l) / d), of 64 bits: m d exceeds 2^(63+l) by less than d <= 2^l, so that
// n m / 2^(63+l) exceeds n / d by less than 1 / d for every n below 2^63, and both have the same floor.
class Quotient {
 public:
  explicit Quotient(int64_t divisor)
      : shift_(std::bit_width(uint64_t(divisor - 1))),
        magic_(uint64_t(((Product(1) << (63 + shift_)) + uint64_t(divisor - 1)) / uint64_t(divisor))) {}
  GENFAST_HD int64_t operator()(int64_t n) const {
    return int64_t(uint64_t(Product(uint64_t(n) * 2) * magic_ >> 64) >> shift_);
  }

 private:
  __extension__ typedef unsigned __int128 Product;
  int shift_;
  uint64_t magic_;
};

}  // namespace genfast::inline GENFAST_ISA
