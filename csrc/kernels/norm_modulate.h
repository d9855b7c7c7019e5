#pragma once
#include "isa.h"
#include "types.h"

namespace genfast {

// Sums over the tokens of a sample are taken in units, of 64 tokens on a CPU, where they are also the work; on a GPU of
// the tokens of a team, of which a block has one or two.  Then the units are added in order.
constexpr int64_t kTokens = 64, kTokensOfTeam = 32;
// Two where rows are short and nothing else is read: a thread of a team holds 16 bytes of each.
inline int64_t teams_of_block(int64_t row_bytes, bool more) { return !more && row_bytes <= 256 * 16 ? 2 : 1; }

struct Tokens {
  int64_t batch, tokens, features;
  constexpr int64_t units() const { return (tokens + kTokens - 1) / kTokens; }
};
inline Work tokens_of_work(const Tokens& shape) {
  return {shape.features ? shape.batch * shape.units() : 0, kGrain / (kTokens * shape.features + 1)};
}

// v = residual + gate y, or x alone; out = (1 + scale) (weight x_hat + bias) + shift with x_hat = (v - mean) rstd.
struct NormModulateArgs {
  void* out;                 // [batch, tokens, features] of `dtype`, as x, y and v
  void* v;                   // null without a gate
  float *mean, *rstd;        // [batch, tokens], or null: not kept; mean also null for the rms variant
  const void *x, *y;         // x is the residual where y is not null
  Small weight, bias;        // [features]; null: 1 and 0; of one type, as are
  Small scale, shift, gate;  // [batch, features]; null: 0, 0, no gate
  float eps;
  bool rms;  // x_hat = v / sqrt(mean v^2 + eps)
  DType dtype;
  Tokens shape;
};
inline Work work(const NormModulateArgs& p) { return tokens_of_work(p.shape); }

struct NormModulateBackwardArgs {
  void* grad_v;    // [batch, tokens, features] of `dtype`, as all that is not float; null: not wanted
  void* grad_y;    // gate grad_v, or null
  float* columns;  // [batch, units, n, features] or null: sums over the tokens of a unit, n = column_sums()
  const void* grad_out;
  const void* grad_v_too;  // what else comes to v, or null
  const void* v;
  const void* y;             // null: the sum for the gate is not wanted
  const float *mean, *rstd;  // [batch, tokens]; mean null for the rms variant
  const float* weight;       // [features], or null: 1
  Small scale, gate;         // of float32; null: 0, no grad_y
  bool modulation;           // whether the first two sums are wanted
  DType dtype;
  int64_t unit;  // tokens
  Tokens shape;
  constexpr int64_t units() const { return (shape.tokens + unit - 1) / unit; }
  // sum grad_out, sum grad_out x_hat; sum grad_v y
  constexpr int64_t column_sums() const { return 2 * modulation + (y != nullptr); }
};
inline Work work(const NormModulateBackwardArgs& p) { return tokens_of_work(p.shape); }

// The sums over units, in order, of parts: [batch, units, sums, features], each sum to a tensor of its own.
struct AddUnitsArgs {
  struct Out {
    float* data;     // null: not wanted
    int64_t stride;  // from sample to sample
  };
  Out out[3];
  const float* parts;
  int64_t units, sums;
  Shape shape;  // [batch sums, features]
};
inline Work work(const AddUnitsArgs& p) { return units_of_work(p.shape); }

GENFAST_TWINS(norm_modulate, NormModulateArgs)
GENFAST_TWINS(norm_modulate_backward, NormModulateBackwardArgs)
GENFAST_TWINS(add_units, AddUnitsArgs)

}  // namespace genfast
