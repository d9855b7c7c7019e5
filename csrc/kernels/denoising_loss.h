#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct DenoisingLossArgs {
  float* loss;      // [batch]: weight / features * sum_i r_i^2
  void* residual;   // [batch, features] of `dtype`, or null: r = net - (p x0 + q z), kept for the backward
  float* partial;   // [batch, chunks] scratch of the CUDA twin; `loss` itself where there is one chunk
  const void* net;  // [batch, features] of `dtype`
  DType dtype;
  const float* x0;
  Keys keys;
  const float *p, *q, *weight;  // [batch]; weight may be null: 1
  uint32_t stream;
  Shape shape;
};
inline Work work(const DenoisingLossArgs& p) { return rows_of_work(p.shape); }

struct DenoisingLossBackwardArgs {
  void* grad_net;        // [batch, features] of `dtype`: 2 grad weight / features r
  float* grad_x0;        // [batch, features] or null: -p times that
  const void* residual;  // [batch, features] of `dtype`
  DType dtype;
  const float *grad, *p, *weight;  // [batch]; grad is that of the loss, weight may be null: 1
  Shape shape;
};
inline Work work(const DenoisingLossBackwardArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(denoising_loss, DenoisingLossArgs)
GENFAST_TWINS(denoising_loss_backward, DenoisingLossBackwardArgs)

}  // namespace genfast
