#pragma once
// The threads of a GPU as fibers.  A fiber that waits yields to the next one; where all wait, the launch is refused.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "context.h"

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulation {

struct Block;
struct AsyncCopy {
  void* to;
  const void* from;
};

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
constexpr size_t kStack = (kSanitized ? 256 : 64) << 10;

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack{new char[kStack]};  // whose pages come when they are touched
  Block* block;
  dim3 thread;
  unsigned linear;  // its number in the block
  bool done;
  uint64_t cluster_phase;                      // of the barrier at which it arrived
  std::vector<std::vector<AsyncCopy>> copies;  // groups that wait to be done, the last one open
};

inline std::deque<Fiber> fibers;  // those of a launch come first
inline Fiber* current = nullptr;
inline Context scheduler;
inline const std::function<void()>* body = nullptr;
inline uint64_t progress = 0;          // moves whenever a wait is over
inline const char* refusal = nullptr;  // why the last launch did not happen, or ended early

inline void yield() { switch_to(current->context, scheduler); }

// Ends the launch.
[[noreturn]] inline void fail(const char* why) {
  refusal = why;
  for (;;) yield();
}

template <class Condition>
inline void wait_until(Condition holds) {
  while (!holds()) yield();
  ++progress;
}

// A barrier of the threads that have not ended yet.
struct Barrier {
  unsigned live = 0, arrived = 0;
  uint64_t phase = 0;

  uint64_t arrive() {
    const uint64_t mine = phase;
    ++arrived;
    complete();
    return mine;
  }
  void wait(uint64_t mine) {
    wait_until([&] { return phase != mine; });
  }
  void sync() { wait(arrive()); }
  void leave() {
    --live;
    complete();
  }

 private:
  void complete() {
    if (live == arrived && arrived > 0) arrived = 0, ++phase;
  }
};

// Runs the first `count` fibers by turns until all have ended.
inline void run_fibers(size_t count) {
  for (size_t live = count; live > 0;) {
    const uint64_t before = progress;
    live = 0;
    for (size_t i = 0; i < count; ++i) {
      if (fibers[i].done) continue;
      current = &fibers[i];
      switch_to(scheduler, current->context);
      if (refusal) return;
      live += !current->done;
    }
    if (live > 0 && progress == before) refusal = "threads that wait for what no other does";
    if (refusal) return;
  }
}

}  // namespace emulation
