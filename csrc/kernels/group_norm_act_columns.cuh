#pragma once
// Sums over the pixels of channels-last maps: a thread has a column, a pack of neighboring channels, of some pixels.
#include "group_norm_act_meet.cuh"

namespace genfast::inline GENFAST_ISA {

// Where a thread of a block stands in its slab.
template <class T>
struct SlabPart {
  using Pack = Packs<T, true>;
  using Word = typename Pack::Word;
  int64_t n, channel, first_group;  // of the slab, the first
  int groups;
  int part, count, width;  // pixels; channels
  int column, row;
  int64_t base, stride;  // in packs: of the thread's first pixel; to its next
  bool inside;           // of the slab
  int mine;              // pixels of the thread

  GENFAST_HD SlabPart(const GroupNorm& p, const SlabSplit& split, const Here& here) : n(here.n), part(here.part) {
    channel = int64_t(here.unit) * split.slab;
    const int64_t across = p.maps.channels - channel;
    const SlabSplit::Pixels& pixels = split.pixels(part);
    count = pixels.count, width = across < split.slab ? int(across) : split.slab;
    row = divided(int(threadIdx.x), split.of_columns), column = int(threadIdx.x) - row * split.columns;
    first_group = split.first_group(here.unit), groups = split.groups_of(p, first_group);
    inside = row < split.rows && column * Pack::kWide < width;
    mine = inside ? pixels.rounds + (row < pixels.rest) : 0;
    const int64_t across_packs = p.maps.channels / Pack::kWide;
    stride = split.rows * across_packs;
    base =
        (n * p.maps.pixels + int64_t(part) * split.of_part.count + row) * across_packs + channel / Pack::kWide + column;
  }
  // To the packs of a later load, or an earlier one.
  GENFAST_HD void move(int packs) { base += packs * stride, mine -= packs; }
  GENFAST_HD bool has(int k) const { return k < mine; }
  GENFAST_HD int64_t place(int k) const { return base + k * stride; }
  template <int packs>
  GENFAST_HD void load(const void* from, Word (&held)[packs]) const {
    each_place<packs>([&](int k, int64_t place) { held[k] = has(k) ? Pack::load(from, place) : Pack::zero(); });
  }
  // From place to place by a sum: all of them by products take more instructions.
  template <int packs, class Visit>
  GENFAST_HD void each_place(const Visit& visit) const {
    int64_t place = base;
    GENFAST_UNROLL
    for (int k = 0; k < packs; ++k) {
      visit(k, place);
      place += stride;
      find_again(place);
    }
  }
};

// What is added to the packs of a thread, before all else.
template <class T, int packs>
GENFAST_HD void add_to(const GroupNorm& p, const SlabPart<T>& part, Stage stage,
                       typename Packs<T, true>::Word (&held)[packs]) {
  using Pack = Packs<T, true>;
  constexpr int wide = Pack::kWide;
  float add[wide] = {};
  if (p.add.data && part.inside)
    for (int j = 0; j < wide; ++j) add[j] = at<T>(p.add, part.n, part.channel + part.column * wide + j);
  GENFAST_UNROLL
  for (int k = 0; k < packs; ++k) {
    if (!part.has(k)) continue;
    if (p.like) {
      typename Pack::Word like = Pack::load(p.like, part.place(k));
      Pack::unpack(like, add);
    }
    held[k] = plus<Pack>(held[k], add);
    if (p.sum && stage != Stage::rest) Pack::store(p.sum, part.place(k), held[k]);
  }
}

// What a forward begins with: the packs of a thread, with what is added, and of the channels slope and offset.
template <int threads, class T, int packs>
__device__ void begin(const GroupNorm& p, const SlabPart<T>& part, Stage stage,
                      typename Packs<T, true>::Word (&held)[packs], Pair* line) {
  part.load(p.x, held);
  if (p.like || p.add.data) add_to(p, part, stage, held);
  for (int c = int(threadIdx.x); c < part.width; c += threads)
    line[c] = {slope_of<T>(p, part.n, part.channel + c), offset_of<T>(p, part.n, part.channel + c)};
}

// Shared memory of a block for the sums of its channels: what each row of threads has, then of some rows together.
struct ColumnSums {
  float* room;
  const SlabSplit& split;
  int wide;

  GENFAST_HD static int64_t floats(const SlabSplit& split, int wide) {
    return int64_t(split.threads) * wide + split.some * split.slab;
  }
  // Adds up what the threads have of their column.
  template <int wide>
  __device__ void add(int row, int column, const float (&mine)[wide]) const {
    struct alignas(16) Four {
      float v[4];
    };
    const int slab = split.slab, rows = split.rows, some = split.some;
    if (row < rows) {
      float* to = room + row * slab + column * wide;
      GENFAST_UNROLL
      for (int j = 0; j < wide; j += 4)
        *reinterpret_cast<Four*>(to + j) = {mine[j], mine[j + 1], mine[j + 2], mine[j + 3]};
    }
    __syncthreads();
    const int thread = int(threadIdx.x), from = some > 1 ? divided(thread, split.of_slab) : 0;
    float* to = of_some();
    for (int c = thread - from * slab; c < slab && from < some; c += int(blockDim.x)) {
      float sum = 0.0f;
      for (int r = from; r < rows; r += some) sum = sum + room[r * slab + c];
      to[from * slab + c] = sum;
    }
    __syncthreads();
  }
  __device__ float of_channel(int c) const {
    const float* from = of_some();
    float sum = 0.0f;
    for (int s = 0; s < split.some; ++s) sum = sum + from[s * split.slab + c];
    return sum;
  }
  // Of channels [begin, begin + count), found by a warp.
  __device__ float of_group(int begin, int count) const {
    float sum = 0.0f;
    for (int c = int(threadIdx.x % 32); c < count; c += 32) sum = sum + of_channel(begin + c);
    return warp_sum(sum);
  }

 private:
  GENFAST_HD float* of_some() const { return room + split.threads * wide; }
};

}  // namespace genfast::inline GENFAST_ISA
