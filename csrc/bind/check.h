#pragma once
// Argument checks, shared by every op.  Every message names the op and the argument, what was expected and what came.
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>

#include "../kernels/types.h"
#include "refuse.h"
#include "run.h"
#include "tensor.h"

namespace genfast {

inline std::string name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    default:
      return torch::headeronly::toString(type);
  }
}

inline std::string name_of(Sizes sizes) {
  std::string text = "(";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + (sizes.size() == 1 ? ",)" : ")");
}

inline std::string name_of(Device device) {
  const std::string type = device.is_cpu()                   ? "cpu"
                           : device.type == DeviceType::CUDA ? "cuda"
                           : device.type == DeviceType::Meta ? "meta"
                                                             : "another device";
  return device.index < 0 ? type : type + ":" + std::to_string(device.index);
}

// What an op answers with or works in; a tensor too large is refused in torch's own words where torch tells them.
inline Tensor allocate(const char* op, const Tensor& like, Sizes sizes, ScalarType type,
                       MemoryFormat format = MemoryFormat::Contiguous) {
  try {
    return like.call().make(like, sizes, type, format);
  } catch (const std::exception& told) {
    refuse(op, ": out of memory for a tensor ", name_of(sizes), " of ", name_of(type), " on ", name_of(like.device()),
           *told.what() ? ": " : "", told.what());
  }
}

// Checks the arguments of one call of `op` against its first tensor.
class Checker {
 public:
  // `like`: (B, *), contiguous or channels-last; sets the batch, the shape and the device.
  Checker(const char* op, const Tensor& like, const char* name) : op_(op), like_(like), name_(name) {
    GENFAST_CHECK(like.dim() >= 1, op, ": ", name, " must have a batch dimension; got a scalar");
    shape_.batch = like.size(0);
    shape_.features = 1;
    for (int64_t i = 1; i < like.dim(); ++i) {
      const bool fits = !__builtin_mul_overflow(shape_.features, like.size(i), &shape_.features);
      GENFAST_CHECK(fits && shape_.features <= int64_t(1) << 34, op, ": ", name,
                    " must have at most 2^34 elements a sample, for which there is noise; got ", name_of(like.sizes()));
    }
    shape_.channels = channels(like, name);
  }

  const Shape& shape() const { return shape_; }

  // Of just this type, and on the device of `like`.
  void belongs(const Tensor& t, const char* name, ScalarType type) const {
    GENFAST_CHECK(t.scalar_type() == type, op_, ": ", name, " must be ", name_of(type), "; got ",
                  name_of(t.scalar_type()));
    GENFAST_CHECK(t.device() == like_.device(), op_, ": ", name, " must be on the device of ", name_, ", ",
                  name_of(like_.device()), "; got ", name_of(t.device()));
  }

  // Contiguous or channels-last.
  void dense(const Tensor& t, const char* name) const { channels(t, name); }

  // `part`: t is one of several tensors that lie along a first dimension, which is left out of account.
  const void* data(const Tensor& t, const char* name, ScalarType type, bool part = false) const {
    belongs(t, name, type);
    bool same = t.dim() == like_.dim() + part;
    for (int64_t i = 0; same && i < like_.dim(); ++i) same = t.size(i + part) == like_.size(i);
    GENFAST_CHECK(same, op_, ": ", name, " must have the shape of ", name_, ", ", name_of(like_.sizes()), "; got ",
                  name_of(t.sizes()));
    GENFAST_CHECK(channels(t, name, part) == shape_.channels, op_, ": ", name, " must have the memory format of ",
                  name_, ": one is contiguous, the other channels-last");
    return t.data_ptr();
  }
  const float* floats(const Tensor& t, const char* name) const {
    return static_cast<const float*>(data(t, name, ScalarType::Float));
  }

  // One float a sample.  A NaN or infinity among them is refused where the host can see it; on a GPU it goes through.
  const float* per_sample(const Tensor& t, const char* name) const {
    table(t, name, ScalarType::Float, {shape_.batch});
    const float* p = static_cast<const float*>(t.data_ptr());
    if (t.is_cpu())
      for (int64_t i = 0; i < shape_.batch; ++i)
        GENFAST_CHECK(std::isfinite(p[i]), op_, ": ", name, "[", i, "] must be a finite number; got ", p[i]);
    return p;
  }
  Keys keys(const Tensor& t) const {
    table(t, "key", ScalarType::Long, {shape_.batch, 2});
    return static_cast<Keys>(t.data_ptr());
  }

  // A contiguous tensor of just this type and these sizes.
  void table(const Tensor& t, const char* name, ScalarType type, std::initializer_list<int64_t> sizes) const {
    belongs(t, name, type);
    bool same = t.dim() == int64_t(sizes.size());
    for (int64_t i = 0; same && i < t.dim(); ++i) same = t.size(i) == sizes.begin()[i];
    GENFAST_CHECK(same, op_, ": ", name, " must have shape ", name_of(Sizes(sizes.begin(), sizes.size())), "; got ",
                  name_of(t.sizes()));
    GENFAST_CHECK(t.is_contiguous(), op_, ": ", name, " must be contiguous; got strides ", name_of(t.strides()));
  }

  // A contiguous float32 row of `count` numbers, shared by all samples.
  const float* row(const Tensor& t, const char* name, int64_t count) const {
    table(t, name, ScalarType::Float, {count});
    return static_cast<const float*>(t.data_ptr());
  }

  // Numbers that go with `like`, if there are any: (count,), or, `each`, a row for each sample, (B, count), where rows
  // may have gaps between them: columns of a wider table.  Of float32, or, if they may be `narrow`, of its type.
  Small small(const std::optional<Tensor>& t, const char* name, int64_t count, bool each, bool narrow = true) const {
    if (!t) return {};
    narrow = narrow && t->scalar_type() == like_.scalar_type() && t->scalar_type() != ScalarType::Float;
    const ScalarType type = narrow ? like_.scalar_type() : ScalarType::Float;
    if (!each) return table(*t, name, type, {count}), Small{t->data_ptr(), 0, narrow};
    rows(*t, name, type, count);
    return {t->data_ptr(), t->stride(0), narrow};
  }
  void rows(const Tensor& t, const char* name, ScalarType type, int64_t count) const {
    belongs(t, name, type);
    GENFAST_CHECK(t.dim() == 2 && t.size(0) == shape_.batch && t.size(1) == count, op_, ": ", name,
                  " must have shape (", shape_.batch, ", ", count, "); got ", name_of(t.sizes()));
    GENFAST_CHECK(t.numel() == 0 || count == 1 || t.stride(1) == 1, op_, ": the rows of ", name,
                  " must be contiguous; got strides ", name_of(t.strides()));
  }

  // A stack (n, B, *) of 1 to `most` float32 tensors, one behind the other, each like the first; its n.
  int64_t stack(const Tensor& t, const char* name, int64_t most) const {
    const int64_t n = t.dim() > 0 ? t.size(0) : 0;
    GENFAST_CHECK(t.dim() == like_.dim() + 1 && n >= 1 && n <= most, op_, ": ", name, " must have shape (n, *", name_,
                  ".shape) with n from 1 to ", most, "; got ", name_of(t.sizes()));
    data(t, (std::string(name) + "[k]").c_str(), ScalarType::Float, true);
    GENFAST_CHECK(n == 1 || t.numel() == 0 || t.stride(0) == shape_.batch * shape_.features, op_, ": the parts of ",
                  name, " must lie one behind the other; got strides ", name_of(t.strides()));
    return n;
  }

  DType edge_type(ScalarType type, const char* name) const {
    switch (type) {
      case ScalarType::Float:
        return DType::float32;
      case ScalarType::BFloat16:
        return DType::bfloat16;
      case ScalarType::Half:
        return DType::float16;
      default:
        GENFAST_CHECK(false, op_, ": ", name, " must be float32, bfloat16 or float16; got ", name_of(type));
    }
  }

  uint32_t stream(int64_t value) const {
    GENFAST_CHECK(value >= 0 && value < int64_t(1) << 32, op_, ": stream must lie in [0, 2^32); got ", value);
    return uint32_t(value);
  }

  // A new tensor of the shape, device and memory format of `like`.
  Tensor empty(ScalarType type) const {
    const MemoryFormat format = shape_.channels == 1 ? MemoryFormat::Contiguous
                                : like_.dim() == 4   ? MemoryFormat::ChannelsLast
                                                     : MemoryFormat::ChannelsLast3d;
    return allocate(op_, like_, like_.sizes(), type, format);
  }
  Tensor empty(ScalarType type, std::initializer_list<int64_t> sizes) const {
    return allocate(op_, like_, {sizes.begin(), sizes.size()}, type);
  }
  // In the place of a tensor that is not wanted.
  Tensor nothing(ScalarType type) const {
    static constexpr int64_t none[] = {0}, one[] = {1};
    return {&like_.call(), nullptr, nullptr, type, 1, like_.device(), {none, 1}, {one, 1}};
  }
  // Memory for the time of the call, on the device of `like`.
  template <class T>
  T* scratch(int64_t count) const {
    int64_t bytes = 0;
    const bool fits = !__builtin_mul_overflow(count, int64_t(sizeof(T)), &bytes) && bytes >= 0;
    GENFAST_CHECK(fits, op_, ": out of memory for ", count, " numbers to work with");
    if (!like_.is_cpu()) return static_cast<T*>(empty(ScalarType::Long, {(bytes + 7) / 8}).data_ptr());
    void* found = like_.call().scratch(size_t(bytes));
    GENFAST_CHECK(found, op_, ": out of memory for ", count, " numbers to work with");
    return static_cast<T*>(found);
  }

  // Where what lies at t begins, which is read: for a CUDA twin a copy of it, where that is no multiple of 16 bytes. Of
  // ops whose order of sums would follow from the place otherwise; such places are rare.
  const void* aligned(const Tensor& t) const {
    if (!runs_cuda_twin(t) || reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0) return t.data_ptr();
    void* copy = scratch<std::byte>(t.nbytes());
    copy_memory(copy, t);
    return copy;
  }
  const void* aligned_data(const Tensor& t, const char* name, ScalarType type) const {
    data(t, name, type);
    return aligned(t);
  }

  // `value` as the float32 that the kernel works with, in [least, most], or (least, most] for `above`.  What is not 0
  // must not become it.
  float number(double value, const char* name, double least, double most, bool above = false) const {
    const float rounded = float(value);
    GENFAST_CHECK((above ? rounded > least : rounded >= least) && rounded <= most && (rounded != 0 || value == 0), op_,
                  ": ", name, " must lie in ", above ? "(" : "[", least, ", ", most, "] when rounded to float32; got ",
                  value);
    return rounded;
  }

  struct Named {
    const Tensor* tensor;
    const char* name;
    Named(const Tensor& t, const char* name) : tensor(&t), name(name) {}
    template <class T>
    Named(const std::optional<T>& t, const char* name) : tensor(t ? &*t : nullptr), name(name) {}
    bool overlaps(const Named& other) const {
      const auto begin = [](const Tensor& t) { return static_cast<const char*>(t.data_ptr()); };
      return tensor && other.tensor && begin(*tensor) < begin(*other.tensor) + other.tensor->nbytes() &&
             begin(*other.tensor) < begin(*tensor) + tensor->nbytes();
    }
  };
  // No tensor that is written to may share memory with another argument.  All of them are dense.
  void apart(std::initializer_list<Named> written, std::initializer_list<Named> read) const {
    const auto refuse_shared = [&](const Named& one, const Named& other) {
      GENFAST_CHECK(!one.overlaps(other), op_, ": ", one.name, ", which is written to, must not share memory with ",
                    other.name);
    };
    for (const Named* one = written.begin(); one != written.end(); ++one) {
      for (const Named* other = one + 1; other != written.end(); ++other) refuse_shared(*one, *other);
      for (const Named& other : read) refuse_shared(*one, other);
    }
  }

 private:
  // 1 for a contiguous tensor, C for a channels-last one; anything else is refused.
  int64_t channels(const Tensor& t, const char* name, bool part = false) const {
    const int64_t dims = t.dim() - part;
    // Whether the dimensions in this order, innermost first, lie one inside the other.
    const auto nested = [&](auto order) {
      int64_t expected = 1;
      for (int64_t i = 0; i < dims; ++i) {
        const int64_t at = order(i) + part;
        if (t.size(at) != 1 && t.stride(at) != expected) return false;
        expected *= t.size(at);
      }
      return true;
    };
    if (t.numel() == 0 || nested([&](int64_t i) { return dims - 1 - i; })) return 1;
    if (dims == 4 || dims == 5)
      if (nested([&](int64_t i) { return i == 0 ? 1 : i == dims - 1 ? 0 : dims - i; })) return t.size(1 + part);
    GENFAST_CHECK(false, op_, ": ", name, " must be contiguous or channels-last; got shape ", name_of(t.sizes()),
                  " with strides ", name_of(t.strides()), "; call .contiguous()");
  }

  const char* op_;
  const Tensor& like_;
  const char* name_;
  Shape shape_{};
};

// Scratch for a CUDA reduction, which spreads a sample over warps: 4 bytes a sum for every 2,048 elements.  `out`, of
// as many floats as there are sums, serves where one warp sums a sample, and on the CPU, which needs none.
inline float* partial_sums(const Checker& check, const Tensor& like, float* out, int sums) {
  const int64_t chunks = chunks_per_row(check.shape().features);
  if (chunks <= 1 || !runs_cuda_twin(like)) return out;
  return check.scratch<float>(check.shape().batch * chunks * sums);
}

}  // namespace genfast
