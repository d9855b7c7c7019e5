#pragma once
// cp.async: 16 bytes from global to shared memory.  Here they arrive when they are waited for, and not before.
#include "launch.h"

namespace emulation {

inline void async_copy(void* to, const void* from) {
  if (!current->block->shared.find(to, 16)) fail("an asynchronous copy to what is not in shared memory");
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) & 15)
    fail("an asynchronous copy that is not aligned");
  if (current->copies.empty()) current->copies.emplace_back();
  current->copies.back().push_back({to, from});
}
// Closes a group of copies.
inline void async_commit() {
  if (current->copies.empty()) current->copies.emplace_back();
  current->copies.emplace_back();
}
// Waits until at most the last `pending` closed groups are under way.
template <int pending>
inline void async_wait() {
  auto& groups = current->copies;
  while (groups.size() > size_t(pending) + 1) {
    for (const AsyncCopy& copy : groups.front()) std::memcpy(copy.to, copy.from, 16);
    groups.erase(groups.begin());
  }
}

}  // namespace emulation
