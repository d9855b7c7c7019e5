#pragma once
// Copies of 16 bytes from global to shared memory while the thread goes on: on a GPU by cp.async, on the host by
// csrc/emulation.
#include "launch.cuh"

namespace genfast {

#if defined(GENFAST_EMULATE)
using emulation::async_commit;
using emulation::async_copy;
using emulation::async_wait;
#else
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
#endif

}  // namespace genfast
