#pragma once
// How an op refuses: one sentence for a person, which names the op and the argument.  It is put together without
// streams (a process may hold two copies of the C++ library, whose streams do not mix) and tells no file of ours.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace genfast {

inline std::string text(const std::string& value) { return value; }
template <class Number>
  requires std::is_arithmetic_v<Number>
std::string text(Number value) {
  if constexpr (std::is_integral_v<Number>) return std::to_string(value);
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", double(value));
  return buffer;
}

template <class... Parts>
[[noreturn, gnu::noinline]] void refuse(const Parts&... parts) {
  throw std::runtime_error((text(parts) + ...));
}

}  // namespace genfast

// GENFAST_CHECK(condition, parts...) refuses in the words of all parts, one after the other, unless the condition
// holds.
#define GENFAST_CHECK(condition, ...) \
  do {                                \
    if (!(condition)) [[unlikely]]    \
      ::genfast::refuse(__VA_ARGS__); \
  } while (false)
