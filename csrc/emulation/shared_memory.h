#pragma once
// The shared memory of a block: what it asked for at its launch, and each variable that a kernel declares.  It is
// full of NaNs at first, and again when the block has ended.  Between the pieces lie bytes that nobody may write to;
// with AddressSanitizer, that nobody may read.
#include <cstring>

#include "fibers.h"

namespace emulation {

constexpr int kUnset = 0xff;
constexpr size_t kGuard = kSanitized ? 0 : 256;  // AddressSanitizer has guards of its own

class SharedMemory {
 public:
  struct Piece {
    const void* key;  // of the variable; null for what was asked for
    size_t bytes;
    std::unique_ptr<char[]> memory;
    char* begin() const { return memory.get() + kGuard; }
    bool holds(const void* p, size_t size) const { return p >= begin() && begin() + bytes >= (const char*)p + size; }
  };

  // The piece of a key, made where there is none yet.
  const Piece& piece(const void* key, size_t bytes) {
    for (const Piece& known : pieces_)
      if (known.key == key) return known;
    pieces_.push_back({key, bytes, std::unique_ptr<char[]>(new char[bytes + 2 * kGuard])});
    std::memset(pieces_.back().memory.get(), kUnset, bytes + 2 * kGuard);
    return pieces_.back();
  }
  // The piece that an address lies in, or null.
  const Piece* find(const void* p, size_t size) const {
    for (const Piece& known : pieces_)
      if (known.holds(p, size)) return &known;
    return nullptr;
  }
  size_t bytes() const {
    size_t sum = 0;
    for (const Piece& known : pieces_) sum += known.bytes;
    return sum;
  }
  // Whether nothing was written beside the pieces; unsets them.
  bool end() {
    bool untouched = true;
    for (const Piece& known : pieces_) {
      for (const char* guard : {known.memory.get(), known.begin() + known.bytes})
        for (size_t i = 0; i < kGuard; ++i) untouched &= guard[i] == char(kUnset);
      std::memset(known.begin(), kUnset, known.bytes);
    }
    return untouched;
  }

 private:
  std::vector<Piece> pieces_;
};

}  // namespace emulation
