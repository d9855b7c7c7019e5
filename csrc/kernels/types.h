#pragma once
// What every Args struct is made of.
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to; declared here so that no CUDA header is needed

namespace genfast {

using Stream = CUstream_st*;

enum class DType : int32_t { float32, bfloat16, float16 };

// A batch of samples.  Element e of a sample is the logical one, (C, H, W) flattened.  In memory a sample is contiguous
// (channels = 1) or channels-last, pixels of `channels` values: element e lies at e % pixels * channels + e / pixels.
struct Shape {
  int64_t batch, features, channels;
};

// A unit of a row, on the CPU: 64 elements; channels-last, 64 pixels of one channel.
constexpr int64_t kUnit = 64;
inline int64_t units_per_row(const Shape& shape) {
  return (shape.features / shape.channels + kUnit - 1) / kUnit * shape.channels;
}

// Numbers that go with a tensor: a row for each sample, `stride` apart, or with stride 0 one for all.  Of float32, or,
// `narrow`, of the tensor's own type.  Null: none.
struct Small {
  const void* data;
  int64_t stride;
  bool narrow;
};

// How the work of an op is shared out among the threads of a CPU: `count` pieces, at least `grain` of them a thread.
// work(args) says it, beside each Args; the CPU twin takes a range of the pieces.
struct Work {
  int64_t count, grain;
};
constexpr int64_t kGrain = 16384;  // elements
inline Work units_of_work(const Shape& shape) { return {shape.batch * units_per_row(shape), kGrain / kUnit}; }
inline Work rows_of_work(const Shape& shape) { return {shape.batch, kGrain / (shape.features + 1)}; }

// A sum over a sample is taken in chunks of 2,048 elements (math/sum.h).
constexpr int64_t kChunk = 2048;
inline int64_t chunks_per_row(int64_t features) { return (features + kChunk - 1) / kChunk; }

// One (seed, sample index) for each row, on the device: [batch, 2].
using Keys = const int64_t*;

}  // namespace genfast
