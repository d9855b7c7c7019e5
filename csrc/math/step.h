#pragma once
// One row of a sampler's plan as an affine map (genfast/diffusion/solvers computes the coefficients, in float64).
#include <cstddef>

#include "lane.h"

namespace genfast::inline GENFAST_ISA {

constexpr int kSlots = 4;  // history slots
static_assert(kSlots < 32, "a slot is a bit of a mask");

// A row of coefficients as it lies in memory: float32 [rows, kStepColumns].
struct alignas(16) StepCoefficients {
  float c_skip, c_out;  // D  = c_skip x + c_out F
  float a, b;           // x' = a x + b D + sum_k e_k h_k + noise
  float e[kSlots];
  float c_in, unused[3];  // y = c_in x', the next network input
};
struct alignas(16) SlotCoefficients {
  float p, q, unused[2];  // h_k' = p x + q D + sum_j m_j h_j
  float m[kSlots];
};
struct StepRow {
  StepCoefficients step;
  SlotCoefficients slot[kSlots];
};
constexpr int kStepColumns = sizeof(StepRow) / sizeof(float);
static_assert(kStepColumns == 8 + kSlots + kSlots * (4 + kSlots), "a row has no gaps");

// What a row touches: int32 [rows, kCodeColumns].
struct alignas(16) StepCode {
  int32_t first, last;     // its noise is the sum of the terms first, ..., last - 1
  uint32_t reads, writes;  // bit masks of history slots
};
constexpr int kCodeColumns = sizeof(StepCode) / sizeof(int32_t);
static_assert(offsetof(StepCode, writes) + sizeof(uint32_t) == sizeof(StepCode), "a code has no gaps");

// F = F_u + w (F_c - F_u): classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598).
GENFAST_HD Floats guided(float w, Floats conditional, Floats unconditional) {
  return fma_(all(w), conditional - unconditional, unconditional);
}

GENFAST_HD Floats denoised(const StepCoefficients& c, Floats x, Floats net) {
  return fma_(all(c.c_out), net, all(c.c_skip) * x);
}

}  // namespace genfast::inline GENFAST_ISA
