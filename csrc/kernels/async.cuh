#pragma once
// Asynchronous copies of 16 bytes from global to shared memory: on a GPU by PTX, on the host by csrc/emulation.
#include "launch.cuh"

#if defined(GENFAST_EMULATE)
namespace genfast {

using emulation::async_commit;
using emulation::async_copy;
using emulation::async_wait;

}  // namespace genfast
#else

namespace genfast {

__device__ inline void async_copy(void* to, const void* from) {
  const unsigned at = unsigned(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}
// Closes a group of copies.
__device__ inline void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most the last `pending` groups of this thread are under way.
template <int pending>
__device__ inline void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace genfast
#endif
