// csrc/math/memory.h at the ends of rows, for the sanitizers: nothing beyond is touched, and no numbers may lie
// nowhere.
#include <cstdio>
#include <memory>

#include "../../csrc/math/memory.h"

using namespace genfast;

template <class T>
static bool ends_well() {
  bool well = true;
  for (int count = 0; count < kLanes; ++count) {
    const std::unique_ptr<T[]> from(count ? new T[count] : nullptr), to(count ? new T[count] : nullptr);
    for (int i = 0; i < count; ++i) narrow(1.0f + float(i), from[i]);
    store_first(to.get(), load_first(from.get(), count), count);
    for (int i = 0; i < count; ++i) well &= widen(to[i]) == 1.0f + float(i);
  }
  return well;
}

int main() { std::puts(ends_well<float>() && ends_well<BFloat16>() && ends_well<Half>() ? "ok" : "wrong"); }
