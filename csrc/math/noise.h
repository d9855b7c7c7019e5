#pragma once
// Noise as a pure function of (seed, sample, stream, element): it depends neither on how a batch is split nor on the
// device.  Element e of a sample takes word e % 4 of counter e / 4.
#include "box_muller.h"
#include "philox.h"

namespace genfast::inline GENFAST_ISA {

// The noise of one row of a batch.  stream = step << 8 | purpose.
struct NoiseRow {
  uint64_t seed, sample;
  uint32_t stream;
};

// Row r of keys [batch, 2] = (seed, sample).
GENFAST_HD NoiseRow noise_row(const int64_t* keys, int64_t r, uint32_t stream) {
  return {uint64_t(keys[2 * r]), uint64_t(keys[2 * r + 1]), stream};
}

// A weighted sum of normals of one row, each from a stream of its own: sum_j weights[j] z_j.
struct NoiseSum {
  uint64_t seed, sample;
  const uint32_t* streams;  // [count]
  const float* weights;     // [count]
  int32_t count;
  uint32_t stream;  // the first, and its weight: at hand for every tile
  float weight;
  GENFAST_HD NoiseSum(uint64_t seed, uint64_t sample, const uint32_t* streams, const float* weights, int32_t count)
      : seed(seed),
        sample(sample),
        streams(streams),
        weights(weights),
        count(count),
        stream(count > 0 ? *streams : 0),
        weight(count > 0 ? *weights : 0.0f) {}
  // add(row, weight) for each of them.
  template <class Add>
  GENFAST_HD void each(Add add) const {
    NoiseRow row{seed, sample, stream};
    float by = weight;
    // One copy of the body: a GPU has no registers for several.
    GENFAST_NO_UNROLL
    for (int32_t j = 0; j < count;) {
      add(row, by);
      if (++j < count) row.stream = streams[j], by = weights[j];
    }
  }
};

// From v[k] lane l = element 4 l + k to v[k] lane l = element kLanes k + l.
GENFAST_HD void to_memory_order([[maybe_unused]] Floats (&v)[4]) {
#if GENFAST_LANES == 8
  const __m256 a = _mm256_unpacklo_ps((__m256)v[0], (__m256)v[1]), b = _mm256_unpackhi_ps((__m256)v[0], (__m256)v[1]);
  const __m256 c = _mm256_unpacklo_ps((__m256)v[2], (__m256)v[3]), d = _mm256_unpackhi_ps((__m256)v[2], (__m256)v[3]);
  const __m256 ac = (__m256)_mm256_unpacklo_pd((__m256d)a, (__m256d)c);
  const __m256 ca = (__m256)_mm256_unpackhi_pd((__m256d)a, (__m256d)c);
  const __m256 bd = (__m256)_mm256_unpacklo_pd((__m256d)b, (__m256d)d);
  const __m256 db = (__m256)_mm256_unpackhi_pd((__m256d)b, (__m256d)d);
  v[0] = (Floats)_mm256_permute2f128_ps(ac, ca, 0x20), v[1] = (Floats)_mm256_permute2f128_ps(bd, db, 0x20);
  v[2] = (Floats)_mm256_permute2f128_ps(ac, ca, 0x31), v[3] = (Floats)_mm256_permute2f128_ps(bd, db, 0x31);
#elif GENFAST_LANES == 16
  const __m512 a = _mm512_unpacklo_ps((__m512)v[0], (__m512)v[1]), b = _mm512_unpackhi_ps((__m512)v[0], (__m512)v[1]);
  const __m512 c = _mm512_unpacklo_ps((__m512)v[2], (__m512)v[3]), d = _mm512_unpackhi_ps((__m512)v[2], (__m512)v[3]);
  const __m512 ac = (__m512)_mm512_unpacklo_pd((__m512d)a, (__m512d)c);
  const __m512 ca = (__m512)_mm512_unpackhi_pd((__m512d)a, (__m512d)c);
  const __m512 bd = (__m512)_mm512_unpacklo_pd((__m512d)b, (__m512d)d);
  const __m512 db = (__m512)_mm512_unpackhi_pd((__m512d)b, (__m512d)d);
  const __m512 p = _mm512_shuffle_f32x4(ac, ca, 0x88), q = _mm512_shuffle_f32x4(bd, db, 0x88);
  const __m512 r = _mm512_shuffle_f32x4(ac, ca, 0xdd), t = _mm512_shuffle_f32x4(bd, db, 0xdd);
  v[0] = (Floats)_mm512_shuffle_f32x4(p, q, 0x88), v[1] = (Floats)_mm512_shuffle_f32x4(r, t, 0x88);
  v[2] = (Floats)_mm512_shuffle_f32x4(p, q, 0xdd), v[3] = (Floats)_mm512_shuffle_f32x4(r, t, 0xdd);
#endif
}

GENFAST_HD Words random_words(const NoiseRow& row, int64_t quad) {
  return philox(row.seed, uint32_t(quad), row.stream, uint32_t(row.sample), uint32_t(row.sample >> 32));
}

// The 4 kLanes elements from 4 quad on, in memory order.
GENFAST_HD void normal(const NoiseRow& row, int64_t quad, Floats (&z)[4]) {
  const Words r = random_words(row, quad);
  box_muller(r.x, r.y, z[0], z[1]);
  box_muller(r.z, r.w, z[2], z[3]);
  to_memory_order(z);
}

// The same of a weighted sum.
GENFAST_HD void normal(const NoiseSum& sum, int64_t quad, Floats (&total)[4]) {
  for (int k = 0; k < 4; ++k) total[k] = all(0.0f);
  sum.each([&](const NoiseRow& row, float weight) {
    const Words r = random_words(row, quad);
    Floats z[4];
    box_muller(r.x, r.y, z[0], z[1]);
    box_muller(r.z, r.w, z[2], z[3]);
    for (int k = 0; k < 4; ++k) total[k] = fma_(all(weight), z[k], total[k]);
  });
  to_memory_order(total);
}

// Uniform in [0, 1): the top 24 bits of a word, exactly.
GENFAST_HD void uniform(const NoiseRow& row, int64_t quad, Floats (&u)[4]) {
  const Words r = random_words(row, quad);
  const Uints words[4] = {r.x, r.y, r.z, r.w};
  for (int k = 0; k < 4; ++k) u[k] = to_float((Ints)(words[k] >> 8)) * all(0x1p-24f);
  to_memory_order(u);
}

}  // namespace genfast::inline GENFAST_ISA
