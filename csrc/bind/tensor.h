#pragma once
// What an op sees of a tensor, whoever calls it: torch's dispatcher (registered.h) or Python itself (raw.h).
#include <torch/headeronly/core/DeviceType.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/HeaderOnlyArrayRef.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace genfast {

using torch::headeronly::DeviceType;
using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

struct Device {
  DeviceType type = DeviceType::CPU;
  int32_t index = -1;  // of the CPU always -1
  bool operator==(const Device&) const = default;
  bool is_cpu() const { return type == DeviceType::CPU; }
};

class Call;

// A view: memory, sizes and strides are the caller's for as long as the call lasts.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Call* call, void* owner, void* data, ScalarType type, int64_t item, Device device, Sizes sizes, Sizes strides)
      : call_(call),
        owner_(owner),
        data_(data),
        sizes_(sizes),
        strides_(strides),
        item_(item),
        type_(type),
        device_(device) {}

  Call& call() const { return *call_; }
  void* owner() const { return owner_; }  // the caller's own tensor; null for nothing
  void* data_ptr() const { return data_; }
  ScalarType scalar_type() const { return type_; }
  Device device() const { return device_; }
  bool is_cpu() const { return device_.is_cpu(); }
  Sizes sizes() const { return sizes_; }
  Sizes strides() const { return strides_; }
  int64_t dim() const { return int64_t(sizes_.size()); }
  int64_t size(int64_t i) const { return sizes_[i < 0 ? i + dim() : i]; }
  int64_t stride(int64_t i) const { return strides_[i]; }
  int64_t numel() const {
    int64_t count = 1;
    for (int64_t n : sizes_) count *= n;
    return count;
  }
  int64_t nbytes() const { return numel() * item_; }
  bool is_contiguous() const {
    int64_t expected = 1;
    for (int64_t i = dim() - 1; i >= 0; --i) {
      if (size(i) != 1 && stride(i) != expected) return numel() == 0;
      expected *= size(i);
    }
    return true;
  }

 private:
  Call* call_ = nullptr;
  void* owner_ = nullptr;
  void* data_ = nullptr;
  Sizes sizes_, strides_;
  int64_t item_ = 0;  // bytes of an element
  ScalarType type_ = ScalarType::Undefined;
  Device device_;
};

// An argument that the op writes to; the schema marks it (a!).
struct Written : Tensor {};

// One call of an op: makes its new tensors, and keeps them until it is over.
class Call {
 public:
  virtual ~Call() = default;
  // A new tensor on the device of `like`, dense in this format, which is that of `like` where the sizes are its own.
  virtual Tensor make(const Tensor& like, Sizes sizes, ScalarType type, MemoryFormat format) = 0;
  virtual void zero_on_device(const Tensor& made) = 0;
  // Around work that needs nothing of Python.
  virtual void unlock() {}
  virtual void lock() {}

  // Memory of the host for the time of the call; null where there is not as much.
  void* scratch(size_t bytes) {
    scratch_.emplace_back(new (std::nothrow) std::byte[bytes ? bytes : 1]);
    return scratch_.back().get();
  }
  void zero(const Tensor& made) {
    if (!made.is_cpu()) return zero_on_device(made);
    if (made.numel()) std::memset(made.data_ptr(), 0, made.nbytes());
  }

 private:
  std::vector<std::unique_ptr<std::byte[]>> scratch_;
};

struct Unlocked {
  Call& call;
  explicit Unlocked(Call& call) : call(call) { call.unlock(); }
  ~Unlocked() { call.lock(); }
  Unlocked(const Unlocked&) = delete;
};

}  // namespace genfast
