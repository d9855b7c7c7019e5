// A GPU's square root in math/noise.h (root_within) without a GPU: every float32 in [1e-30, 45], and in place of the
// approximation of 1 / sqrt(x), which is at most 2^-22.9 off, every float32 within 2 units in the last place of it.
// Each must give the correctly rounded root.  2 minutes on two cores:
//   g++ -std=c++20 -O3 -march=x86-64-v3 -ffp-contract=off -pthread tests/long/roots.cpp -o /tmp/roots && /tmp/roots
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

static float root(float x, float y) {
  const float g = x * y, h = 0.5f * y;
  return std::fma(std::fma(-g, g, x), h, g);
}

int main() {
  const uint32_t first = std::bit_cast<uint32_t>(1e-30f), last = std::bit_cast<uint32_t>(45.0f);
  constexpr uint32_t piece = 1 << 16;
  std::atomic<uint64_t> next = first, wrong[5] = {};
  const auto work = [&] {
    for (uint64_t begin; (begin = next.fetch_add(piece)) <= last;) {
      uint64_t found[5] = {};
      for (uint64_t bits = begin; bits < begin + piece && bits <= last; ++bits) {
        const float x = std::bit_cast<float>(uint32_t(bits)), exact = std::sqrt(x);
        const uint32_t y = std::bit_cast<uint32_t>(float(1.0 / std::sqrt(double(x))));
        for (uint32_t k = 0; k < 5; ++k) found[k] += root(x, std::bit_cast<float>(y + k - 2)) != exact;
      }
      for (int k = 0; k < 5; ++k) wrong[k] += found[k];
    }
  };
  std::vector<std::thread> threads;
  for (unsigned k = 0; k < std::thread::hardware_concurrency(); ++k) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  uint64_t all = 0;
  for (int k = 0; k < 5; ++k) {
    std::printf("%+d units: %llu wrong of %u\n", k - 2, (unsigned long long)wrong[k], last - first + 1);
    all += wrong[k];
  }
  return all != 0;
}
