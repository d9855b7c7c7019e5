// The square root of math/box_muller.h on a GPU (root_within), every float32 in [1e-30, 45], without a GPU.
//
// It is an approximation of 1 / sqrt(x) and two fused steps.  nvcc's own sqrt is these five instructions, with a test
// before them whether x is in [2^-101, 2^127); so in our range both give the same bits, whatever the approximation is,
// and that is IEEE's root, as sqrt of a GPU is.  This program says how much of it is the steps' doing: from an
// approximation that is 1 / sqrt(x) correctly rounded, all roots must be right; printed is how many are not where it is
// 1 or 2 units in the last place off (a few hundred of 882 million).  A minute on two cores:
//
//   g++ -std=c++20 -O3 -march=x86-64-v3 -ffp-contract=off -pthread tests/long/roots.cpp -o roots && ./roots
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
  for (int k = 0; k < 5; ++k)
    std::printf("%+d units: %llu wrong of %u\n", k - 2, (unsigned long long)wrong[k], last - first + 1);
  return wrong[2] != 0;
}
