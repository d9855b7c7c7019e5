#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

struct ReparameterizeArgs {
  void* z;                  // [batch, features] of `dtype`: mu + e^(logvar / 2) eps
  float* kl;                // [batch]: sum_i (mu_i^2 + e^logvar_i - 1 - logvar_i) / 2
  float* partial;           // [batch, chunks] scratch of the CUDA twin; `kl` itself where there is one chunk
  const void *mu, *logvar;  // [batch, features] of `dtype`
  DType dtype;
  Keys keys;
  uint32_t stream;
  Shape shape;
};
inline Work work(const ReparameterizeArgs& p) { return rows_of_work(p.shape); }

struct ReparameterizeBackwardArgs {
  void *grad_mu, *grad_logvar;       // [batch, features] of `dtype`
  const void *grad_z, *mu, *logvar;  // [batch, features] of `dtype`
  const float* grad_kl;              // [batch]
  DType dtype;
  Keys keys;
  uint32_t stream;
  Shape shape;
};
inline Work work(const ReparameterizeBackwardArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(reparameterize, ReparameterizeArgs)
GENFAST_TWINS(reparameterize_backward, ReparameterizeBackwardArgs)

}  // namespace genfast
