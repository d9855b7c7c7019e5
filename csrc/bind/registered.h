#pragma once
// An op as torch's dispatcher calls it: for torch.compile, for modes and transforms, for the tensors that raw.h leaves.
// Stable-ABI torch headers only, so that one binary serves torch 2.11 to 2.15.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <concepts>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "tensor.h"

// Weak: torch 2.13 and newer.
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace genfast {

class RegisteredCall final : public Call {
 public:
  using Theirs = torch::stable::Tensor;

  Tensor view(const Theirs& t) {
    const bool cpu = t.is_cpu();
    const Device device{t.device().type(), cpu ? -1 : t.get_device_index()};
    return {this, t.get(), t.data_ptr(), t.scalar_type(), int64_t(t.element_size()), device, t.sizes(), t.strides()};
  }

  Tensor make(const Tensor& like, Sizes sizes, ScalarType type, MemoryFormat format) override {
    try {
      made_.push_back(create(like.device(), sizes, type, format));
    } catch (const std::exception&) {
      const bool told = torch_exception_get_what_without_backtrace != nullptr;
      throw std::runtime_error(told ? torch_exception_get_what_without_backtrace() : "");
    }
    return view(made_.back());
  }

  void zero_on_device(const Tensor& made) override {
    Theirs t = give(made);
    torch::stable::zero_(t);
  }

  // What was made, as the dispatcher wants it; no tensor is an empty one there.
  Theirs give(const Tensor& made) {
    for (const Theirs& t : made_)
      if (t.get() == made.owner()) return t;
    return create(made.device(), made.sizes(), made.scalar_type(), MemoryFormat::Contiguous);
  }

 private:
  static Theirs create(Device device, Sizes sizes, ScalarType type, MemoryFormat format) {
    const torch::stable::Device theirs(device.type, device.index);
    return torch::stable::empty(sizes, type, std::nullopt, theirs, std::nullopt, format);
  }

  std::vector<Theirs> made_;
};

// The dispatcher's types for those of a glue function.
template <class T>
struct Theirs {
  using Type = T;
  static T view(RegisteredCall&, T value) { return value; }
};
template <>
struct Theirs<Tensor> {
  using Type = torch::stable::Tensor;
  static Tensor view(RegisteredCall& call, const Type& t) { return call.view(t); }
  static Type give(RegisteredCall& call, const Tensor& t) { return call.give(t); }
};
template <>
struct Theirs<Written> {
  using Type = torch::stable::Tensor;
  static Written view(RegisteredCall& call, const Type& t) { return {call.view(t)}; }
};
template <class T>
  requires std::derived_from<T, Tensor>
struct Theirs<std::vector<T>> {
  using Type = std::vector<torch::stable::Tensor>;
  static std::vector<T> view(RegisteredCall& call, const Type& tensors) {
    std::vector<T> views;
    for (const auto& t : tensors) views.push_back(Theirs<T>::view(call, t));
    return views;
  }
};
template <class T>
struct Theirs<std::optional<T>> {
  using Type = std::optional<typename Theirs<T>::Type>;
  static std::optional<T> view(RegisteredCall& call, const Type& value) {
    if (!value) return std::nullopt;
    return Theirs<T>::view(call, *value);
  }
};
template <class... T>
struct Theirs<std::tuple<T...>> {
  using Type = std::tuple<typename Theirs<T>::Type...>;
  static Type give(RegisteredCall& call, const std::tuple<T...>& made) {
    return std::apply([&](const T&... one) { return Type{Theirs<T>::give(call, one)...}; }, made);
  }
};

template <auto glue, class Signature = decltype(glue)>
struct Registered;
template <auto glue, class R, class... A>
struct Registered<glue, R (*)(A...)> {
  static typename Theirs<R>::Type call(typename Theirs<A>::Type... args) {
    RegisteredCall call;
    return Theirs<R>::give(call, glue(Theirs<A>::view(call, args)...));
  }
};
template <auto glue, class... A>
struct Registered<glue, void (*)(A...)> {
  static void call(typename Theirs<A>::Type... args) {
    RegisteredCall call;
    glue(Theirs<A>::view(call, args)...);
  }
};

}  // namespace genfast
