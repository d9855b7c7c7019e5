#pragma once
// All that a glue function is written with.
#include "check.h"
#include "raw.h"
#include "registered.h"
#include "run.h"

// GENFAST_IMPL(op) makes one glue function an op of torch on both devices, and a raw one of Python; without CUDA
// kernels it says so on a GPU.
#define GENFAST_IMPL_FOR(op, device) \
  STABLE_TORCH_LIBRARY_IMPL(genfast, device, m) { m.impl(#op, TORCH_BOX(&genfast::Registered<&genfast::op>::call)); }
#define GENFAST_IMPL(op)     \
  GENFAST_IMPL_FOR(op, CPU)  \
  GENFAST_IMPL_FOR(op, CUDA) \
  static const genfast::RawOp raw_##op(#op, &genfast::Raw<&genfast::op>::call);
