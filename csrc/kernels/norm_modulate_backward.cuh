#pragma once
// The backward of a norm, of rows that a block of threads holds: what it reads is on its way to shared memory some rows
// ahead, and sums over tokens grow in registers.
#include "async.cuh"
#include "norm_modulate_forward.cuh"

namespace genfast::inline GENFAST_ISA {

struct alignas(8) Two {
  float x, y;
};

// The sums of two numbers over a team of at most 8 warps.  Two places in turn, so that one barrier will do; of warps
// that there are not they hold zeros.
struct PairSum {
  float (*of_warps)[16];  // [2], of a warp two numbers
  int place = 0;
  __device__ Two operator()(float a, float b) {
    // The lower half of the warp goes on with the sum of a, the upper one with that of b.
    const bool upper = threadIdx.x & 16;
    float mine = (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, 16);
    for (int distance = 8; distance > 0; distance /= 2) mine = mine + __shfl_xor_sync(0xffffffffu, mine, distance);
    float* const sums = of_warps[place];
    place ^= 1;
    if (threadIdx.x % 16 == 0) sums[threadIdx.x / 16] = mine;
    __syncthreads();
    mine = sums[threadIdx.x % 16];
    for (int distance = 2; distance < 16; distance *= 2) mine = mine + __shfl_xor_sync(0xffffffffu, mine, distance);
    const float other = __shfl_xor_sync(0xffffffffu, mine, 1);
    return threadIdx.x % 2 ? Two{other, mine} : Two{mine, other};
  }
};

// Rows that are under way or at hand.
constexpr int ahead_stages(int packs, bool more) { return more ? 2 : packs == 1 ? 4 : 3; }

// A block takes the rows of one unit, its teams one row each at a time.  `more`: there is a gate, or something else
// comes to v.
template <class T, int packs, bool more, int teams>
__global__ void __launch_bounds__(256 * teams)
    rows_backward_kernel(const __grid_constant__ NormModulateBackwardArgs p) {
  constexpr int size = kPack<T>, inputs = more ? 4 : 2, stages = ahead_stages(packs, more);
  GENFAST_DYNAMIC_SHARED(uint4, ring);  // [stage][input][pack][thread]
  GENFAST_SHARED(float[teams][2][16], of_warps);
  GENFAST_SHARED(Two[2 * kTokensOfTeam], moments);
  const int n = int(p.shape.features), count = n / size, threads = blockDim.x, lane = threadIdx.x;
  const int team = teams > 1 ? int(threadIdx.y) : 0, place = team * threads + lane;
  const int64_t units = p.units(), sample = blockIdx.x / units, begin = blockIdx.x % units * p.unit;
  const int64_t first = sample * p.shape.tokens + begin;
  const int rows = int(begin + p.unit < p.shape.tokens ? p.unit : p.shape.tokens - begin);
  const auto inside = [&](int i) { return i * threads + lane < count; };

  const T* from[inputs] = {static_cast<const T*>(p.grad_out), static_cast<const T*>(p.v)};
  if constexpr (more) from[2] = static_cast<const T*>(p.grad_v_too), from[3] = static_cast<const T*>(p.y);
  const int64_t start = (first + team) * n + lane * size;
  const auto slot = [&](int stage, int input, int i) -> uint4& {
    return ring[((stage * inputs + input) * packs + i) * teams * threads + place];
  };
  int64_t ahead = start;  // where the next row to be read begins
  const auto read_ahead = [&](int row, int stage) {
    if (row < rows) {
      GENFAST_UNROLL
      for (int input = 0; input < inputs; ++input)
        if (input < 2 || from[input]) GENFAST_UNROLL
      for (int i = 0; i < packs; ++i)
        if (inside(i)) async_copy(&slot(stage, input, i), from[input] + ahead + i * threads * size);
    } else if (teams > 1) {  // a row that one team has and the other has not
      slot(stage, 0, 0) = slot(stage, 1, 0) = uint4{};
    }
    ahead += teams * n;
    async_commit();
  };
  for (int i = 0; i < packs; ++i)
    if (!inside(i))
      for (int at = 0; at < stages * inputs; ++at) slot(0, at, i) = uint4{};
  GENFAST_UNROLL
  for (int stage = 0; stage < stages - 1; ++stage) read_ahead(stage * teams + team, stage);
  if (lane < 32) of_warps[team][lane / 16][lane % 16] = 0.0f;
  for (int row = place; row < rows; row += teams * threads)
    moments[row] = {p.mean ? p.mean[first + row] : 0.0f, p.rstd[first + row]};
  if (place == 0 && rows % teams) moments[rows] = Two{};
  float factors[packs][size], gates[more ? packs : 1][size];
  GENFAST_UNROLL
  for (int i = 0; i < packs; ++i) {
    const int pack = inside(i) ? i * threads + lane : 0;
    float scale[size];
    columns_of<T>(p.weight, pack, 1.0f, factors[i]), columns_of<T>(row_of(p.scale, sample), pack, 0.0f, scale);
    GENFAST_UNROLL
    for (int k = 0; k < size; ++k) factors[i][k] = factor(factors[i][k], scale[k]);
    if constexpr (more) columns_of<T>(row_of(p.gate, sample), pack, 0.0f, gates[i]);
  }
  __syncthreads();

  const float inverse = 1.0f / float(n), of_mean = p.mean ? inverse : 0.0f;
  PairSum add_up{of_warps[team]};
  int64_t begins = start;
  float grads[packs][size] = {}, slopes[packs][size] = {}, to_gate[more ? packs : 1][size] = {};
  GENFAST_NO_UNROLL
  for (int of_first = 0, stage = 0; of_first < rows; of_first += teams, stage = stage + 1 == stages ? 0 : stage + 1) {
    const int row = of_first + team;
    read_ahead(row + (stages - 1) * teams, stage == 0 ? stages - 1 : stage - 1);
    const Moments at{moments[row].x, moments[row].y};
    async_wait<stages - 1>();
    float grad[packs][size], far[packs][size], sum = 0.0f, product = 0.0f;  // x_hat = rstd far, d = factor grad
    GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      unpack<T>(slot(stage, 0, i), grad[i]), unpack<T>(slot(stage, 1, i), far[i]);
      GENFAST_UNROLL
      for (int k = 0; k < size; ++k) {
        far[i][k] = far[i][k] - at.mean;
        const float slope = grad[i][k] * far[i][k];
        grads[i][k] = grads[i][k] + grad[i][k], slopes[i][k] = fma_(slope, at.rstd, slopes[i][k]);
        sum = fma_(grad[i][k], factors[i][k], sum), product = fma_(slope, factors[i][k], product);
      }
    }
    const Two total = add_up(sum, product);
    const float mean = total.x * of_mean, slope = at.rstd * (at.rstd * (total.y * inverse));
    if (p.grad_v) GENFAST_UNROLL
    for (int i = 0; i < packs; ++i) {
      if (!inside(i) || (teams > 1 && row >= rows)) continue;
      const int64_t to = begins + i * threads * size;
      float too[size] = {};
      if constexpr (more)
        if (p.grad_v_too) unpack<T>(slot(stage, 2, i), too);
      GENFAST_UNROLL
      for (int k = 0; k < size; ++k) {
        const float inner = fma_(far[i][k], -slope, fma_(grad[i][k], factors[i][k], -mean));
        grad[i][k] = fma_(at.rstd, inner, too[k]);
      }
      const uint4 stored = packed<T>(grad[i]);
      store_wide(reinterpret_cast<uint4*>(static_cast<T*>(p.grad_v) + to), stored);
      if constexpr (more) {
        if (p.y) {
          unpack<T>(slot(stage, 3, i), too), unpack<T>(stored, far[i]);
          GENFAST_UNROLL
          for (int k = 0; k < size; ++k) to_gate[i][k] = fma_(far[i][k], too[k], to_gate[i][k]);
        }
        if (p.grad_y) {
          GENFAST_UNROLL
          for (int k = 0; k < size; ++k) grad[i][k] = gates[i][k] * grad[i][k];
          store_wide(reinterpret_cast<uint4*>(static_cast<T*>(p.grad_y) + to), packed<T>(grad[i]));
        }
      }
    }
    begins += teams * n;
  }

  if constexpr (teams == 2) {  // the second team tells the first
    constexpr int words = size / 4;
    __syncthreads();
    const auto told = [&](int i) -> uint4& { return ring[i * threads + lane]; };
    for (int i = 0; i < words && team == 1; ++i)
      told(i) = packed<float>(grads[0] + 4 * i), told(words + i) = packed<float>(slopes[0] + 4 * i);
    __syncthreads();
    if (team == 1) return;
    GENFAST_UNROLL
    for (int k = 0; k < size; k += 4) {
      float grad[4], slope[4];
      unpack<float>(told(k / 4), grad), unpack<float>(told(words + k / 4), slope);
      GENFAST_UNROLL
      for (int j = 0; j < 4; ++j)
        grads[0][k + j] = grads[0][k + j] + grad[j], slopes[0][k + j] = slopes[0][k + j] + slope[j];
    }
  }
  float* sums = p.columns + blockIdx.x * p.column_sums() * n + lane * size;
  const auto store = [&](float* to, const float (&values)[size], int i) {
    GENFAST_UNROLL
    for (int k = 0; k < size; k += 4)
      store_wide(reinterpret_cast<uint4*>(to + i * threads * size + k), packed<float>(values + k));
  };
  GENFAST_UNROLL
  for (int i = 0; i < packs; ++i) {
    if (!inside(i)) continue;
    if (p.modulation) store(sums, grads[i], i), store(sums + n, slopes[i], i);
    if constexpr (more)
      if (p.y) store(sums + (p.column_sums() - 1) * n, to_gate[i], i);
  }
}

// Whether the rows fit, and so were taken.
template <class T>
bool launch_rows_backward(const NormModulateBackwardArgs& p, Stream stream) {
  const int64_t count = p.shape.features / kPack<T>, blocks = p.shape.batch * p.units();
  const int packs = count <= 256   ? 1
                    : count <= 512 ? 2
                                   : 3,
            of_team = int((count + 32 * packs - 1) / (32 * packs)) * 32;
  if (!aligned(p.grad_v, p.grad_y, p.columns, p.grad_out, p.grad_v_too, p.v, p.y) || p.shape.features % kPack<T> != 0 ||
      of_team > 256 || blocks >= int64_t(1) << 31)
    return false;
  const bool more = p.grad_v_too || p.y || p.grad_y;
  const size_t bytes = size_t(ahead_stages(packs, more)) * (more ? 4 : 2) * packs * of_team * 16;
  const auto fits = [&](int teams) { return teams * bytes + 1536 <= shared_memory(); };
  if (!fits(1)) return false;
  const auto launch = [&]<int packs, bool more, int teams>() {
    GENFAST_KERNEL_LAUNCH((rows_backward_kernel<T, packs, more, teams>), dim3(unsigned(blocks)), dim3(of_team, teams),
                          teams * bytes, stream, p);
  };
  const auto with_packs = [&]<int packs>() {
    more ? launch.template operator()<packs, true, 1>() : launch.template operator()<packs, false, 1>();
  };
  if (teams_of_block(p.shape.features * int64_t(sizeof(T)), more) == 2 && fits(2))
    launch.template operator()<1, false, 2>();
  else if (packs == 1)
    with_packs.template operator()<1>();
  else if (packs == 2)
    with_packs.template operator()<2>();
  else
    with_packs.template operator()<3>();
  return true;
}

}  // namespace genfast::inline GENFAST_ISA
