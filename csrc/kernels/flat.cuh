#pragma once
// The CUDA driver of ops that move memory and compute little: one thread for each 16 bytes of a batch of rows, so that
// none is idle at the end of a row, whatever its width.
#include "pack.cuh"

namespace genfast::inline GENFAST_ISA {

// The row of a pack, without a division: pack * factor >> shift is pack / packs for every pack below 2^31.
struct Packs {
  uint32_t count, packs, factor, shift = 31;  // in all, and in a row
  Packs(int64_t rows, int64_t packs) : count(uint32_t(rows * packs)), packs(uint32_t(packs)) {
    while ((int64_t(1) << (shift - 31)) < packs) ++shift;
    factor = uint32_t(((uint64_t(1) << shift) + packs - 1) / packs);
  }
  GENFAST_HD uint32_t row(uint32_t pack) const { return uint32_t(uint64_t(pack) * factor >> shift); }
};

// `size` consecutive elements of a row, read and written 16 bytes at a time.
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
    Values values;
    GENFAST_UNROLL
    for (int i = 0; i < size; i += kPack<T>) unpack<T>(load_wide(from + i), values.v + i);
    return values;
  }
  template <class T>
  GENFAST_HD void store(T* base, const Values& values) const {
    T* to = base + (row * shape.features + first);
    GENFAST_UNROLL
    for (int i = 0; i < size; i += kPack<T>) store_wide(reinterpret_cast<uint4*>(to + i), packed<T>(values.v + i));
  }
};

template <class Body, int size, int blocks>
__global__ void __launch_bounds__(kThreads, blocks)
    flat_kernel(const __grid_constant__ Body body, const __grid_constant__ Shape shape,
                const __grid_constant__ Packs packs) {
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= packs.count) return;
  const uint32_t row = packs.row(pack);
  body.row(row)(PackTile<size>{shape, row, int64_t(pack - row * packs.packs) * size});
}

// `are_aligned`: every pointer that the body loads from or stores to is 16-byte aligned.  T: of 16 bits or 32, what it
// works on.  blocks: that a multiprocessor must hold, or 0: as the compiler likes it.
template <class T, int blocks = 0, class Body>
const char* flat_map(const Shape& shape, bool are_aligned, const Body& body, Stream stream) {
  constexpr int size = kPack<T>;
  const int64_t packs = shape.features / size, count = shape.batch * packs;
  if (!are_aligned || shape.features % size != 0 || count >= int64_t(1) << 31)
    return map(shape, are_aligned, body, stream);
  if (count == 0) return nullptr;
  GENFAST_KERNEL_LAUNCH((flat_kernel<Body, size, blocks>), dim3(unsigned((count + kThreads - 1) / kThreads)),
                        dim3(kThreads), 0, stream, body, shape, Packs(shape.batch, packs));
  return launch_error();
}

}  // namespace genfast::inline GENFAST_ISA
