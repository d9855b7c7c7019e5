#pragma once
// The CUDA driver of ops that move memory and compute little: one thread for each 16 bytes of a batch of contiguous
// rows, or for each element where they are not aligned, so that none is idle at the end of a row, whatever its width.
#include "pack.cuh"

namespace genfast::inline GENFAST_ISA {

// Some rows and, of each, some packs.  No division finds the row of a pack: pack * factor >> shift is pack / across for
// every pack below 2^31.
struct Packs {
  int64_t first_row, first;
  uint32_t count, across, factor, shift = 31;
  Packs(int64_t first_row, int64_t rows, int64_t first, int64_t across)
      : first_row(first_row), first(first), count(uint32_t(rows * across)), across(uint32_t(across)) {
    while ((int64_t(1) << (shift - 31)) < across) ++shift;
    factor = uint32_t(((uint64_t(1) << shift) + across - 1) / across);
  }
  GENFAST_HD uint32_t row(uint32_t pack) const { return uint32_t(uint64_t(pack) * factor >> shift); }
};

// `size` consecutive elements of a row: one, or as many as are read and written 16 bytes at a time.
template <int size>
struct PackTile {
  struct Values {
    float v[size];
    static constexpr int kParts = size;
  };
  const Shape& shape;
  int64_t row, first;

  template <class T>
  GENFAST_HD Values load(const T* base) const {
    const T* from = base + (row * shape.features + first);
    if constexpr (size == 1) {
      return {{widen(*from)}};
    } else {
      Values values;
      GENFAST_UNROLL
      for (int i = 0; i < size; i += kPack<T>) unpack<T>(load_wide(from + i), values.v + i);
      return values;
    }
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    T* to = base + (row * shape.features + first);
    if constexpr (size == 1) {
      narrow(*values.v, *to);
    } else {
      GENFAST_UNROLL
      for (int i = 0; i < size; i += kPack<T>) store_wide(reinterpret_cast<uint4*>(to + i), packed<T>(values.v + i));
    }
  }
};

template <class Body, int size, int blocks>
__global__ void __launch_bounds__(kThreads, blocks)
    flat_kernel(const __grid_constant__ Body body, const __grid_constant__ Shape shape,
                const __grid_constant__ Packs packs) {
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= packs.count) return;
  const uint32_t down = packs.row(pack), column = pack - down * packs.across;
  if constexpr (size == 1) {
    const int64_t row = packs.first_row + down;
    body.row(row)(PackTile<1>{shape, row, packs.first + column});
  } else {  // in 32 bits, for 64 take twice the instructions
    const uint32_t row = uint32_t(packs.first_row) + down;
    body.row(row)(PackTile<size>{shape, row, int64_t(column) * size});
  }
}

// T: of 16 bits or 32, what the body works on.  blocks: that a multiprocessor must hold, or 0: as the compiler likes
// it. `are_aligned`: every pointer that the body loads from or stores to is 16-byte aligned.
template <class T, int blocks = 0, class Body>
const char* flat_map(const Shape& shape, bool are_aligned, const Body& body, Stream stream) {
  constexpr int64_t most = int64_t(1) << 30;  // of packs a launch
  const auto launch = [&]<int size>() {
    const int64_t packs = shape.features / size, across = packs < most ? packs : most;
    if (across == 0) return;
    for (int64_t row = 0, down = most / across; row < shape.batch; row += down)
      for (int64_t first = 0; first < packs; first += across) {
        const Packs some(row, row + down < shape.batch ? down : shape.batch - row, first,
                         first + across < packs ? across : packs - first);
        GENFAST_KERNEL_LAUNCH((flat_kernel<Body, size, blocks>), dim3((some.count + kThreads - 1) / kThreads),
                              dim3(kThreads), 0, stream, body, shape, some);
      }
  };
  if (are_aligned && shape.features % kPack<T> == 0 && shape.features < most && shape.batch < most)
    launch.template operator()<kPack<T>>();
  else
    launch.template operator()<1>();
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
