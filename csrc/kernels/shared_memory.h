#pragma once
#include <cstddef>

namespace genfast {

// Bytes of shared memory that a block may have on the current device, variables of the kernel included: 227 KiB on
// sm_90 and sm_100, 163 on sm_80, 99 on sm_86, sm_89 and sm_120; never less than 48.
size_t shared_memory();  // device.cu

}  // namespace genfast
