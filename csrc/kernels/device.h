#pragma once

namespace genfast::cuda {

// Why the current device runs none of the kernels ("no kernels for sm_75"), or null where it does.
const char* unsupported();

}  // namespace genfast::cuda
