#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct LangevinArgs {
  float* x;                   // [batch, features]; x in, x' out
  void* y;                    // [batch, features] of `dtype`, or null: the next network input c_in x'
  const void* net;            // [batch, features] of `dtype`
  const void* unconditional;  // [batch, features] of `dtype`, or null
  DType dtype;
  const float* guidance;  // [batch], with unconditional
  Keys keys;              // [batch, 2]
  uint32_t stream;
  const float *alpha, *sigma, *snr, *c_skip, *c_out;  // [batch]
  const float* c_in;                                  // [batch] or null: 1
  float* gains;                                       // [batch, 2] scratch: the factors of sigma^2 g and of z
  float* partial;                                     // [batch, chunks, 2] scratch of the CUDA twin, or `gains`
  Shape shape;
};
inline Work work(const LangevinArgs& p) { return rows_of_work(p.shape); }

GENFAST_TWINS(langevin, LangevinArgs)

}  // namespace genfast
