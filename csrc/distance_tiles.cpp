// Tiles by instruction set. Of the four sums that a pair's kernel keeps, two are summed at a time, of as many pairs as registers hold;
// whatever the number of pairs, the additions of each and their order are those of its kernel.

#include "distance_tiles.hpp"

#include "distance_lanes.hpp"

namespace vecdb {
namespace {

using namespace lanes;

#if defined(__x86_64__)

// Two rows and four queries, by query.
using Sums512 = __m512[4][2];

VECDB_FMA512 void set_zero(Sums512& sums) {
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i) sums[i / 2][i % 2] = _mm512_setzero_ps();
}

VECDB_FMA512 void add_to(Sums512& sums, const Sums512& others) {
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i) sums[i / 2][i % 2] = _mm512_add_ps(sums[i / 2][i % 2], others[i / 2][i % 2]);
}

template <class Step>
VECDB_FMA512 void add_products(const float* query, std::size_t stride, const float* const* rows, std::size_t i, __mmask16 mask,
                               Sums512& sums) {
  const __m512 first = _mm512_maskz_loadu_ps(mask, rows[0] + i);
  const __m512 second = _mm512_maskz_loadu_ps(mask, rows[1] + i);
#pragma GCC unroll 4
  for (std::size_t q = 0; q < 4; ++q) {
    __m512 of_query = _mm512_maskz_loadu_ps(mask, query + q * stride + i);
    // Into a register: g++ would read it for each row anew, and reading is what there is most of.
    __asm__("" : "+v"(of_query));
    sums[q][0] = Step::add(sums[q][0], of_query, first);
    sums[q][1] = Step::add(sums[q][1], of_query, second);
  }
}

// Lanes [offset, offset + 16) of every 64 below whole.
template <class Step>
VECDB_FMA512 void add_every_64(const float* query, std::size_t stride, const float* const* rows, std::size_t offset, std::size_t whole,
                               Sums512& sums) {
  for (std::size_t i = offset; i < whole; i += 64) add_products<Step>(query, stride, rows, i, 0xFFFF, sums);
}

// Masked forms throughout, because g++ 12 warns of the undefined operand inside the plain ones.
template <int which>
VECDB_FMA512 __m512 quarters(__m512 a, __m512 b) {
  return _mm512_maskz_shuffle_f32x4(0xFFFF, a, b, which);
}
template <int which>
VECDB_FMA512 __m512 within_quarters(__m512 a, __m512 b) {
  return _mm512_maskz_shuffle_ps(0xFFFF, a, b, which);
}
// 16 lanes of a and of b to 8 of each; 8 to 4, of two such; 4 to 2; 2 to 1: what add_lanes does, step by step.
VECDB_FMA512 __m512 add_eights(__m512 a, __m512 b) { return _mm512_add_ps(quarters<0x44>(a, b), quarters<0xEE>(a, b)); }
VECDB_FMA512 __m512 add_fours(__m512 ab, __m512 cd) { return _mm512_add_ps(quarters<0x88>(ab, cd), quarters<0xDD>(ab, cd)); }
VECDB_FMA512 __m512 add_twos(__m512 first, __m512 second) {
  return _mm512_add_ps(within_quarters<0x44>(first, second), within_quarters<0xEE>(first, second));
}
VECDB_FMA512 __m512 add_ones(__m512 first, __m512 second) {
  return _mm512_add_ps(within_quarters<0x88>(first, second), within_quarters<0xDD>(first, second));
}

// By quarter: two lanes that are left of query q and the first row, two of the second row.
template <class Step>
VECDB_FMA512 __m512 sum_up(const float* query, std::size_t stride, const float* const* rows, std::size_t dim) {
  const std::size_t whole = dim & ~std::size_t{63};
  Sums512 first, second, fourth;
  set_zero(first);
  add_every_64<Step>(query, stride, rows, 0, whole, first);
  std::size_t i = whole;
  for (; i + 16 <= dim; i += 16) add_products<Step>(query, stride, rows, i, 0xFFFF, first);
  set_zero(second);
  add_every_64<Step>(query, stride, rows, 16, whole, second);
  if (i < dim) add_products<Step>(query, stride, rows, i, first_floats(dim - i), second);
  add_to(first, second);
  Sums512& third = second;
  set_zero(third);
  add_every_64<Step>(query, stride, rows, 32, whole, third);
  set_zero(fourth);
  add_every_64<Step>(query, stride, rows, 48, whole, fourth);
  add_to(third, fourth);
  add_to(first, third);
  __m512 of_row[2];
#pragma GCC unroll 2
  for (std::size_t r = 0; r < 2; ++r) of_row[r] = add_fours(add_eights(first[0][r], first[1][r]), add_eights(first[2][r], first[3][r]));
  return add_twos(of_row[0], of_row[1]);
}

template <class Step>
__attribute__((target(VECDB_FMA512_TARGET))) void avx512_tile(const float* queries, std::size_t stride, const float* const* rows,
                                                              std::size_t dim, float* out) noexcept {
  const __m512 low = sum_up<Step>(queries, stride, rows, dim);
  const __m512 high = sum_up<Step>(queries + 4 * stride, stride, rows, dim);
  // By quarter there are now query q, of both rows, and query q + 4, of both rows.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15);
  _mm512_storeu_ps(out, _mm512_maskz_permutexvar_ps(0xFFFF, order, add_ones(low, high)));
}

// Two queries and two rows: query 0 with both, then query 1.
using Sums256 = __m256[4];

VECDB_FMA void set_zero(Sums256& sums) {
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) sums[i] = _mm256_setzero_ps();
}

VECDB_FMA void add_to(Sums256& sums, const Sums256& others) {
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) sums[i] = _mm256_add_ps(sums[i], others[i]);
}

template <class Step>
VECDB_FMA void add_products(const float* query, std::size_t stride, const float* const* rows, std::size_t i, Sums256& sums) {
  const __m256 first = _mm256_loadu_ps(rows[0] + i);
  const __m256 second = _mm256_loadu_ps(rows[1] + i);
#pragma GCC unroll 2
  for (std::size_t q = 0; q < 2; ++q) {
    __m256 of_query = _mm256_loadu_ps(query + q * stride + i);
    __asm__("" : "+x"(of_query));  // as above
    sums[2 * q] = Step::add(sums[2 * q], of_query, first);
    sums[2 * q + 1] = Step::add(sums[2 * q + 1], of_query, second);
  }
}

// The sums of four vectors' lanes, in order, each as add_lanes adds them.
VECDB_FMA __m128 add_lanes_of_4(const Sums256& sums) {
  const __m256 of_01 = _mm256_add_ps(_mm256_permute2f128_ps(sums[0], sums[1], 0x20), _mm256_permute2f128_ps(sums[0], sums[1], 0x31));
  const __m256 of_23 = _mm256_add_ps(_mm256_permute2f128_ps(sums[2], sums[3], 0x20), _mm256_permute2f128_ps(sums[2], sums[3], 0x31));
  const __m256 pairs = _mm256_add_ps(_mm256_shuffle_ps(of_01, of_23, 0x44), _mm256_shuffle_ps(of_01, of_23, 0xEE));
  const __m128 of_02 = _mm256_castps256_ps128(pairs);
  const __m128 of_13 = _mm256_extractf128_ps(pairs, 1);
  const __m128 of_0213 = _mm_add_ps(_mm_shuffle_ps(of_02, of_13, 0x88), _mm_shuffle_ps(of_02, of_13, 0xDD));
  return _mm_shuffle_ps(of_0213, of_0213, 0xD8);
}

// query 0 with both rows, then query 1; of the dimensions below the last multiple of 8.
template <class Step>
VECDB_FMA __m128 sum_up_256(const float* query, std::size_t stride, const float* const* rows, std::size_t dim) {
  Sums256 first, second, third, fourth;
  set_zero(first);
  set_zero(second);
  std::size_t i = 0;
  for (; i + 32 <= dim; i += 32) {
    add_products<Step>(query, stride, rows, i, first);
    add_products<Step>(query, stride, rows, i + 8, second);
  }
  const std::size_t whole = i;
  for (; i + 8 <= dim; i += 8) add_products<Step>(query, stride, rows, i, first);
  add_to(first, second);
  set_zero(third);
  set_zero(fourth);
  for (i = 0; i < whole; i += 32) {
    add_products<Step>(query, stride, rows, i + 16, third);
    add_products<Step>(query, stride, rows, i + 24, fourth);
  }
  add_to(third, fourth);
  add_to(first, third);
  return add_lanes_of_4(first);
}

template <class Step>
__attribute__((target(VECDB_FMA_TARGET))) void avx2_tile(const float* queries, std::size_t stride, const float* const* rows,
                                                         std::size_t dim, float* out) noexcept {
  for (std::size_t q = 0; q < kTileQueries; q += 4) {
    const __m128 low = sum_up_256<Step>(queries + q * stride, stride, rows, dim);
    const __m128 high = sum_up_256<Step>(queries + (q + 2) * stride, stride, rows, dim);
    _mm_storeu_ps(out + q, _mm_shuffle_ps(low, high, 0x88));
    _mm_storeu_ps(out + kTileQueries + q, _mm_shuffle_ps(low, high, 0xDD));
  }
  std::size_t i = dim & ~std::size_t{7};
  if (i == dim) return;
  __m256 sums[kTileRows] = {_mm256_loadu_ps(out), _mm256_loadu_ps(out + kTileQueries)};
  for (; i < dim; ++i) {
    const float* const at = queries + i;
    const __m256 of_queries =
        _mm256_setr_ps(at[0], at[stride], at[2 * stride], at[3 * stride], at[4 * stride], at[5 * stride], at[6 * stride], at[7 * stride]);
#pragma GCC unroll 2
    for (std::size_t r = 0; r < kTileRows; ++r) sums[r] = _mm256_add_ps(sums[r], Step::unfused(of_queries, _mm256_set1_ps(rows[r][i])));
  }
  _mm256_storeu_ps(out, sums[0]);
  _mm256_storeu_ps(out + kTileQueries, sums[1]);
}
static_assert(kTileQueries == 8 && kTileRows == 2, "the tiles above are of two rows and eight queries");

#elif defined(__aarch64__)

// Two rows and four queries, by query.
using SumsNeon = float32x4_t[4][2];

inline void set_zero(SumsNeon& sums) {
  for (std::size_t i = 0; i < 8; ++i) sums[i / 2][i % 2] = vdupq_n_f32(0.0F);
}

inline void add_to(SumsNeon& sums, const SumsNeon& others) {
  for (std::size_t i = 0; i < 8; ++i) sums[i / 2][i % 2] = vaddq_f32(sums[i / 2][i % 2], others[i / 2][i % 2]);
}

template <class Step>
inline void add_products(const float* query, std::size_t stride, const float* const* rows, std::size_t i, SumsNeon& sums) {
  const float32x4_t first = vld1q_f32(rows[0] + i);
  const float32x4_t second = vld1q_f32(rows[1] + i);
  for (std::size_t q = 0; q < 4; ++q) {
    const float32x4_t of_query = vld1q_f32(query + q * stride + i);
    sums[q][0] = Step::add(sums[q][0], of_query, first);
    sums[q][1] = Step::add(sums[q][1], of_query, second);
  }
}

template <class Step>
void neon_tile(const float* queries, std::size_t stride, const float* const* rows, std::size_t dim, float* out) noexcept {
  const std::size_t whole = dim & ~std::size_t{15};
  for (std::size_t q = 0; q < kTileQueries; q += 4) {
    const float* const query = queries + q * stride;
    SumsNeon first, second, third, fourth;
    set_zero(first);
    set_zero(second);
    std::size_t i = 0;
    for (; i < whole; i += 16) {
      add_products<Step>(query, stride, rows, i, first);
      add_products<Step>(query, stride, rows, i + 4, second);
    }
    for (; i + 4 <= dim; i += 4) add_products<Step>(query, stride, rows, i, first);
    add_to(first, second);
    set_zero(third);
    set_zero(fourth);
    for (i = 0; i < whole; i += 16) {
      add_products<Step>(query, stride, rows, i + 8, third);
      add_products<Step>(query, stride, rows, i + 12, fourth);
    }
    add_to(third, fourth);
    add_to(first, third);
    for (std::size_t r = 0; r < kTileRows; ++r) {
      // Neighbours are added, then neighbouring sums: the order of vaddvq_f32.
      float32x4_t sums = vpaddq_f32(vpaddq_f32(first[0][r], first[1][r]), vpaddq_f32(first[2][r], first[3][r]));
      float* const of_row = out + r * kTileQueries + q;
      vst1q_f32(of_row, sums);
      for (std::size_t rest = dim & ~std::size_t{3}; rest < dim; ++rest) {
        for (std::size_t k = 0; k < 4; ++k) of_row[k] += Step::of(query[k * stride + rest], rows[r][rest]);
      }
    }
  }
}

#endif

}  // namespace

#if defined(__x86_64__)
TileKernels avx2_tiles() { return {avx2_tile<Avx2L2>, avx2_tile<Avx2Dot>}; }
TileKernels avx512_tiles() { return {avx512_tile<Avx512L2>, avx512_tile<Avx512Dot>}; }
#elif defined(__aarch64__)
TileKernels neon_tiles() { return {neon_tile<NeonL2>, neon_tile<NeonDot>}; }
#endif

}  // namespace vecdb
