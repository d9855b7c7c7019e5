#include "map.cuh"
#include "step_body.h"

namespace genfast::cuda {

// with_slots(n, f) calls f(integral_constant<int, n>).
template <int slots = kSlots, class Function>
static void with_slots(int n, Function f) {
  if constexpr (slots == 0)
    f(std::integral_constant<int, 0>{});
  else if (n >= slots)
    f(std::integral_constant<int, slots>{});
  else
    with_slots<slots - 1>(n, f);
}

const char* step(const StepArgs& p, Stream stream) {
  const char* error = nullptr;
  const bool are_aligned = aligned(p.x, p.y, p.history, p.net, p.unconditional);
  with_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    with_slots(p.slots, [&](auto slots) {
      const StepBody<T, slots == 0 ? 0 : kSlots, true> any{p};
      if (p.terms > 0)
        error = map(p.shape, are_aligned, StepBody<T, slots, true>{p}, any, stream);
      else
        error = map(p.shape, are_aligned, StepBody<T, slots, false>{p}, any, stream);
    });
  });
  return error;
}

}  // namespace genfast::cuda
