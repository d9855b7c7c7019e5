#pragma once
#include <cstddef>

#include "types.h"

namespace genfast::cuda {

// Why the current device runs none of the kernels ("no kernels for sm_75"), or null where it does.
const char* unsupported();

// From memory of the device to memory of the device; null, or what went wrong.
const char* copy(void* to, const void* from, size_t bytes, Stream stream);

#if defined(GENFAST_EMULATE)
void set_shared_memory(size_t bytes);  // that a block may have
#endif

}  // namespace genfast::cuda
