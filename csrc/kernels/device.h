#pragma once
#include <cstddef>

namespace genfast::cuda {

// Why the current device runs none of the kernels ("no kernels for sm_75"), or null where it does.
const char* unsupported();

#if defined(GENFAST_EMULATE)
void set_shared_memory(size_t bytes);  // that a block may have
#endif

}  // namespace genfast::cuda
