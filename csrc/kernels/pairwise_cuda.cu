#include <numeric>

#include "pairwise_balls.cuh"
#include "pairwise_nearest.cuh"

namespace genfast::cuda {

namespace {

// A walk through a set of m points whose first few are like all of them, in whatever order they come.
int64_t step_of(int64_t m) {
  if (m >= int64_t(1) << 31) return 1;  // what it is multiplied by must not overflow
  int64_t step = std::max<int64_t>(1, int64_t(double(m) * 0.6180339887));
  while (std::gcd(step, m) > 1) ++step;
  return step;
}

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, Stream stream, const Arguments&... arguments) {
  GENFAST_KERNEL_LAUNCH(kernel, dim3(unsigned(blocks)), dim3(kThreads), 0, stream, arguments...);
  return launch_error();
}

int64_t warps_in_blocks(int64_t warps) { return (warps + kWarps - 1) / kWarps; }

class Call {
 public:
  Call(const PairwiseArgs& p, Stream stream) : p_(p), stream_(stream), memory_(p) {
    parts_ = at<float>(memory_.center), scale_ = parts_ + PairwiseMemory::kParts, center_ = scale_ + 1;
    const int64_t points_of_y = memory_.points + memory_.rows * int64_t(sizeof(Point) + sizeof(Ball));
    x_ = part(p.x, p.radius_x, memory_.x, memory_.points, memory_.rows, p.n);
    y_ = part(p.y, p.radius_y, memory_.y, points_of_y, memory_.columns, p.m);
    if (p.k > 0) x_.counts = at<unsigned>(memory_.counts);
    y_.step = step_of(p.m);
  }

  const char* run() {
    const int64_t eights = (p_.n + p_.m) * p_.features / kThreads / 8 + 1;
    const int parts = int(std::min(eights, PairwiseMemory::kParts));
    if (const char* error = launch(largest_kernel, parts, stream_, p_, parts_)) return error;
    if (const char* error =
            launch(center_kernel, p_.features / kThreads + 1, stream_, p_, parts_, parts, scale_, center_))
      return error;
    for (int64_t first = 0; first < p_.n; first += memory_.rows) {
      if (const char* error = pack(x_, first, memory_.rows, PairwiseMemory::kRows)) return error;
      if (const char* error = against_all()) return error;
    }
    return nullptr;
  }

 private:
  template <class T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(p_.scratch) + offset);
  }

  Part part(const float* points, const double* radius, int64_t tiles, int64_t of, int64_t most, int64_t size) const {
    Part it{};
    it.points = points, it.radius = radius, it.tiles = at<uint4>(tiles);
    it.of = at<Point>(of), it.balls = reinterpret_cast<Ball*>(it.of + most);
    it.size = size, it.step = 1, it.nearest = p_.k > 0, it.vector = aligned(points) && p_.features % 4 == 0;
    return it;
  }

  // Points from `first` on, at most so many, and zeros up to a multiple.
  const char* pack(Part& part, int64_t first, int64_t most, int64_t multiple) const {
    part.first = first, part.count = int(std::min(most, part.size - first));
    const int64_t warps = (part.count + multiple - 1) / multiple * multiple;
    return launch(pack_kernel, warps_in_blocks(warps), stream_, part, p_.features, scale_, center_);
  }

  // The rows of x_ against all of y.  To find the nearest, few columns first: once their distances are known, few of
  // thrice as many are candidates.
  const char* against_all() {
    constexpr int64_t multiple = PairwiseMemory::kColumns;
    for (int64_t first = 0; first < p_.m; first += y_.count) {
      const int64_t few = first == 0 ? memory_.capacity : (3 * first + multiple - 1) / multiple * multiple;
      const int64_t most = p_.k > 0 ? std::min(few, memory_.columns) : memory_.columns;
      if (const char* error = pack(y_, first, most, multiple)) return error;
      if (const char* error = p_.k > 0 ? nearest(first == 0) : balls()) return error;
    }
    return nullptr;
  }

  const char* nearest(bool first) const {
    const Candidates found{x_, y_, x_.counts, at<Entry>(memory_.found), int(memory_.capacity)};
    if (const char* error = multiply_parts(found, memory_.units, stream_)) return error;
    return launch(decide_kernel, warps_in_blocks(x_.count), stream_, p_, found, scale_, first);
  }

  const char* balls() const {
    const Counts of_x{p_.in_x, p_.over_x}, of_y{p_.in_y, p_.over_y};
    const Balls balls{x_, y_, of_x, of_y, at<unsigned>(memory_.found), int(memory_.columns / 32)};
    if (const char* error = multiply_parts(balls, memory_.units, stream_)) return error;
    return launch(open_kernel, warps_in_blocks(x_.count), stream_, p_, balls);
  }

  const PairwiseArgs& p_;
  const Stream stream_;
  const PairwiseMemory memory_;
  float *parts_, *scale_, *center_;
  Part x_, y_;
};

}  // namespace

const char* pairwise(const PairwiseArgs& p, Stream stream) {
  if (p.n == 0 || p.m == 0) return nullptr;
  return Call(p, stream).run();
}

}  // namespace genfast::cuda
