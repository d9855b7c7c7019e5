#pragma once
// Switching between stacks, on one OS thread.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>

namespace emulation {

struct Context {
  void* top;  // of a stack on which the registers lie that a function must keep
};

// noipa: the compiler must not find out that no other register is named here.
[[gnu::naked, gnu::noipa]] inline void switch_stacks(void**, void*) {
  asm("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
      "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
      "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}
inline void switch_to(Context& from, const Context& to) { switch_stacks(&from.top, to.top); }

// The first switch to it calls entry(), which does not return.
inline void prepare(Context& context, char* stack, size_t size, void (*entry)()) {
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) & ~uintptr_t(15));
  *--top = nullptr;  // where entry() would return to
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.top = top;
}

}  // namespace emulation
#else
#include <ucontext.h>  // the same with two system calls a switch

#include <cstddef>

namespace emulation {

struct Context {
  ucontext_t at;
};
inline void switch_to(Context& from, const Context& to) { swapcontext(&from.at, &to.at); }
inline void prepare(Context& context, char* stack, size_t size, void (*entry)()) {
  getcontext(&context.at);
  context.at.uc_stack.ss_sp = stack, context.at.uc_stack.ss_size = size, context.at.uc_link = nullptr;
  makecontext(&context.at, entry, 0);
}

}  // namespace emulation
#endif
