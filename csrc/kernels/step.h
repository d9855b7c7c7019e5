#pragma once
#include "../math/step.h"
#include "isa.h"
#include "types.h"

namespace genfast {

struct StepArgs {
  float* x;                   // [batch, features]; x_t in, x_s out
  void* y;                    // [batch, features] of `dtype`, or null: the next network input c_in x_s
  float* history;             // [slots, batch, features], in and out
  const void* net;            // [batch, features] of `dtype`
  const void* unconditional;  // [batch, features] of `dtype`, or null
  DType dtype;
  const float* guidance;      // [batch], with unconditional; a sample at 1 is the conditional one, exactly
  Keys keys;                  // [batch, 2]
  const int32_t* row;         // [batch]: which row of the plan each sample is at; beyond it, the sample becomes NaN
  const float* coefficients;  // [rows, kStepColumns], a StepRow each
  const int32_t* codes;       // [rows, kCodeColumns], a StepCode each
  int64_t rows;
  const uint32_t* streams;  // [terms]: the noise of a row is the sum of its terms, weights[j] z(streams[j])
  const float* weights;     // [terms]
  int64_t terms;
  int32_t slots;    // of history; a row's masks beyond them are ignored
  float low, high;  // D is clamped to [low, high]
  bool clamp;
  Shape shape;
};
inline Work work(const StepArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(step, StepArgs)

}  // namespace genfast
