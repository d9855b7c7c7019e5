#pragma once
// The k-th smallest of many magnitudes by their bits, exactly and in any order of them: as unsigned integers, the bits
// of |x| sort as |x| does (a NaN above all).  Radix selection: count how often each leading digit occurs, keep the one
// in which rank k falls, go on with the next digit among those that have it.
#include "lane.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kDigits = 3;   // of 11, 10 and 10 bits
constexpr int kBins = 2048;  // of a histogram
GENFAST_HD constexpr int digit_shift(int digit) { return 20 - 10 * digit; }
GENFAST_HD uint32_t magnitude_bits(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffffu; }

struct Selection {
  uint32_t prefix = 0;  // the digits found so far
  uint32_t rank = 0;    // among the elements that have them
  uint32_t count = 0;   // of the elements that have them

  // The bin of an element, at most kBins - 1, for its digit number `digit`; kBins if an earlier one is another.
  GENFAST_HD uint32_t bin(uint32_t bits, int digit) const {
    if (digit > 0 && bits >> digit_shift(digit - 1) != prefix) return kBins;
    return digit > 0 ? bits >> digit_shift(digit) & 1023u : bits >> digit_shift(0);
  }
  // Rank `rank` lies in `found`, before which there are `before` elements and in which there are `in`.
  GENFAST_HD void take(uint32_t found, int digit, uint32_t before, uint32_t in) {
    prefix = digit > 0 ? prefix << 10 | found : found;
    rank -= before;
    count = in;
  }
};

// The place of a quantile among n sorted values, as torch.quantile has it: between rank `below` and the one above it.
struct QuantilePlace {
  uint32_t below;
  double weight;  // of the value above
  GENFAST_HD QuantilePlace(double quantile, int64_t n) {
    const double place = quantile * double(n - 1);
    below = uint32_t(place);
    weight = place - double(below);
  }
};

GENFAST_HD float interpolated(uint32_t low, uint32_t high, double weight) {
  const double a = std::bit_cast<float>(low), b = std::bit_cast<float>(high);
  return low == high ? float(a) : float(a + weight * (b - a));
}

}  // namespace genfast::inline GENFAST_ISA
