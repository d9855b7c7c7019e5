#pragma once
#include "../math/margin.h"
#include "../math/pair.h"
#include "pairwise.h"

namespace genfast::inline GENFAST_ISA {

constexpr int64_t kNobody = INT64_MAX;  // the index of a place in a list that is still empty, at distance infinity

GENFAST_HD double radius_at(const double* squared, int64_t i) { return squared ? squared[i] : -1.0; }

}  // namespace genfast::inline GENFAST_ISA
