#pragma once
// The part of DLPack's C exchange that we use, in our own words: how a Python tensor is looked at without torch's
// unstable headers.  dlpack.h of DLPack 1.3 (github.com/dmlc/dlpack, Apache-2.0), which torch publishes since 2.10 as
// `torch.Tensor.__dlpack_c_exchange_api__`.
#include <cstdint>

namespace genfast::dlpack {

constexpr uint32_t kMajor = 1;  // layouts are those of this version
constexpr const char* kCapsule = "dlpack_exchange_api";

constexpr int32_t kCPU = 1, kCUDA = 2;
struct Device {
  int32_t type, index;
};

constexpr uint8_t kInt = 0, kFloat = 2, kBfloat = 4;
struct Type {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {  // shape and strides are the owner's
  void* data;
  Device device;
  int32_t ndim;
  Type type;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};

struct ExchangeAPI {
  struct Header {
    uint32_t major, minor;
    Header* older;
  } header;
  void *allocator, *managed_from_object, *managed_to_object;
  int (*view)(void* object, Tensor* to);  // 0, or -1 with Python's error set; may be null
  void* work_stream;
};

}  // namespace genfast::dlpack
