// Blocks by instruction set. Where eight queries meet a row, VNNI takes eight dimensions of the row to all of them, so that each
// 32-bit lane sums for one query and little is left to add across lanes.

#include "code_blocks.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "code_lanes.hpp"

namespace vecdb {
namespace {

template <class Distance>
void any_rows(const CodeQueryView& query, const CodeRows& rows, std::size_t dim, float* distances) noexcept {
  const CodeKernels& kernels = code_kernels();
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    const auto dot = static_cast<float>(kernels.dot_summed(query.codes, query.sum, rows.codes[r], dim));
    distances[r] = Distance::of(query.measure, rows.measure(r), dot);
  }
}

template <class Distance>
std::uint32_t any_tile(const CodeTileView& queries, const CodeRows& rows, std::size_t dim, const float* limits, float* distances) noexcept {
  const CodeKernels& kernels = code_kernels();
  std::uint32_t near = 0;
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    for (std::size_t q = 0; q < kTileQueries; ++q) {
      const auto dot = static_cast<float>(kernels.dot_summed(queries.codes + q * queries.stride, queries.sums[q], rows.codes[r], dim));
      const float distance = Distance::of(queries.measure(q), rows.measure(r), dot);
      distances[r * kTileQueries + q] = distance;
      near |= static_cast<std::uint32_t>(distance <= limits[q]) << r;
    }
  }
  return near;
}

#if defined(__x86_64__)

// CodeL2 and CodeDot, eight at once: of one vector and eight others, whichever side the eight are on.
struct Eight {
  const float* scales;
  const float* squared_norms;
};

struct Avx2L2 {
  VECDB_INLINE_FOR(VECDB_AVX2_TARGET) __m128 of_4(const Eight& many, std::size_t first, const CodeMeasure& one, __m128i dots) {
    const __m256d scales = _mm256_cvtps_pd(_mm_mul_ps(_mm_loadu_ps(many.scales + first), _mm_set1_ps(one.scale)));
    const __m256d products = _mm256_mul_pd(scales, _mm256_cvtps_pd(_mm_cvtepi32_ps(dots)));
    const __m256d norms =
        _mm256_add_pd(_mm256_cvtps_pd(_mm_loadu_ps(many.squared_norms + first)), _mm256_set1_pd(static_cast<double>(one.squared_norm)));
    return _mm256_cvtpd_ps(_mm256_max_pd(_mm256_sub_pd(norms, _mm256_add_pd(products, products)), _mm256_setzero_pd()));
  }
};
struct Avx2Dot {
  VECDB_INLINE_FOR(VECDB_AVX2_TARGET) __m128 of_4(const Eight& many, std::size_t first, const CodeMeasure& one, __m128i dots) {
    const __m256d scales =
        _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(many.scales + first)), _mm256_set1_pd(static_cast<double>(one.scale)));
    const __m256d products = _mm256_mul_pd(scales, _mm256_cvtps_pd(_mm_cvtepi32_ps(dots)));
    return _mm_xor_ps(_mm256_cvtpd_ps(products), _mm_set1_ps(-0.0F));
  }
};

template <class Distance>
VECDB_INLINE_FOR(VECDB_AVX2_TARGET)
void finish(const Eight& many, const CodeMeasure& one, __m256i dots, float* distances) {
  _mm_storeu_ps(distances, Distance::of_4(many, 0, one, _mm256_castsi256_si128(dots)));
  _mm_storeu_ps(distances + 4, Distance::of_4(many, 4, one, _mm256_extracti128_si256(dots, 1)));
}

// Codes beyond dim are zero in queries, so that what lies there in a row does not count.
template <class Distance>
__attribute__((target(VECDB_AVX2_TARGET))) void avx2_rows(const CodeQueryView& query, const CodeRows& rows, std::size_t dim,
                                                          float* distances) noexcept {
  __m256i sums[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm256_setzero_si256();
  for (std::size_t i = 0; i < dim; i += 32) {
    const __m256i codes = lanes::load_256(query.codes + i);
    const __m256i sizes = _mm256_abs_epi8(codes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      sums[r] = lanes::add_products(sums[r], codes, sizes, lanes::load_256(rows.codes[r] + i));
    }
  }
  finish<Distance>({rows.scales, rows.squared_norms}, query.measure, lanes::add_lanes_of_8(sums), distances);
}

template <class Distance>
__attribute__((target(VECDB_AVX2_TARGET))) std::uint32_t avx2_tile(const CodeTileView& queries, const CodeRows& rows, std::size_t dim,
                                                                   const float* limits, float* distances) noexcept {
  std::uint32_t near = 0;
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    __m256i sums[kTileQueries];
#pragma GCC unroll 8
    for (std::size_t q = 0; q < kTileQueries; ++q) sums[q] = _mm256_setzero_si256();
    for (std::size_t i = 0; i < dim; i += 32) {
      const __m256i codes = lanes::load_256(rows.codes[r] + i);
      const __m256i sizes = _mm256_abs_epi8(codes);
      const std::int8_t* query = queries.codes + i;
#pragma GCC unroll 8
      for (std::size_t q = 0; q < kTileQueries; ++q, query += queries.stride) {
        sums[q] = lanes::add_products(sums[q], codes, sizes, lanes::load_256(query));
      }
    }
    float* const of_row = distances + r * kTileQueries;
    finish<Distance>({queries.scales, queries.squared_norms}, rows.measure(r), lanes::add_lanes_of_8(sums), of_row);
    const __m256 is_near = _mm256_cmp_ps(_mm256_loadu_ps(of_row), _mm256_loadu_ps(limits), _CMP_LE_OQ);
    near |= static_cast<std::uint32_t>(_mm256_movemask_ps(is_near) != 0) << r;
  }
  return near;
}

// The same with 512 bits; the masked conversions, because g++ 12 warns of the undefined operand inside the plain ones.
VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512d as_doubles(__m256 values) { return _mm512_maskz_cvtps_pd(0xFF, values); }
VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m256 as_floats(__m512d values) { return _mm512_maskz_cvtpd_ps(0xFF, values); }

struct Avx512L2 {
  VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m256 of(const Eight& many, const CodeMeasure& one, __m256i dots) {
    const __m512d scales = as_doubles(_mm256_mul_ps(_mm256_loadu_ps(many.scales), _mm256_set1_ps(one.scale)));
    const __m512d products = _mm512_mul_pd(scales, as_doubles(_mm256_cvtepi32_ps(dots)));
    const __m512d norms =
        _mm512_add_pd(as_doubles(_mm256_loadu_ps(many.squared_norms)), _mm512_set1_pd(static_cast<double>(one.squared_norm)));
    const __m512d squared = _mm512_sub_pd(norms, _mm512_add_pd(products, products));
    return as_floats(_mm512_maskz_max_pd(0xFF, squared, _mm512_setzero_pd()));
  }
};
struct Avx512Dot {
  VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m256 of(const Eight& many, const CodeMeasure& one, __m256i dots) {
    const __m512d scales = _mm512_mul_pd(as_doubles(_mm256_loadu_ps(many.scales)), _mm512_set1_pd(static_cast<double>(one.scale)));
    const __m512d products = _mm512_mul_pd(scales, as_doubles(_mm256_cvtepi32_ps(dots)));
    return _mm256_xor_ps(as_floats(products), _mm256_set1_ps(-0.0F));
  }
};

VECDB_INLINE_FOR(VECDB_VNNI_TARGET) __m256i times_128(__m256i sums) { return _mm256_slli_epi32(sums, 7); }

template <class Distance>
__attribute__((target(VECDB_VNNI_TARGET))) void vnni_rows(const CodeQueryView& query, const CodeRows& rows, std::size_t dim,
                                                          float* distances) noexcept {
  __m512i sums[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    const __m512i codes = _mm512_loadu_si512(query.codes + i);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      sums[r] = _mm512_dpbusd_epi32(sums[r], lanes::plus_128(_mm512_loadu_si512(rows.codes[r] + i)), codes);
    }
  }
  if (i < dim) {
    const __mmask64 rest = lanes::first_lanes(dim - i);
    const __m512i codes = _mm512_loadu_si512(query.codes + i);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      sums[r] = _mm512_dpbusd_epi32(sums[r], lanes::plus_128(_mm512_maskz_loadu_epi8(rest, rows.codes[r] + i)), codes);
    }
  }
  __m256i halves[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) halves[r] = lanes::add_halves(sums[r]);
  const __m256i dots = _mm256_sub_epi32(lanes::add_lanes_of_8(halves), times_128(_mm256_set1_epi32(query.sum)));
  _mm256_storeu_ps(distances, Distance::of({rows.scales, rows.squared_norms}, query.measure, dots));
}

VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512i to_all(const std::int8_t* eight_codes) {
  long long bits;
  std::memcpy(&bits, eight_codes, sizeof(bits));
  return _mm512_set1_epi64(bits);
}

// Of two rows: two lanes of each query become one. First those of row a, then those of row b.
VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512i add_twos(__m512i a, __m512i b) {
  const __m512i order = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  const __m512 firsts = _mm512_maskz_shuffle_ps(0xFFFF, _mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
  const __m512 seconds = _mm512_maskz_shuffle_ps(0xFFFF, _mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xDD);
  return _mm512_maskz_permutexvar_epi32(0xFFFF, order, _mm512_add_epi32(_mm512_castps_si512(firsts), _mm512_castps_si512(seconds)));
}

VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512 twice(const float* eight) {
  const __m512d half = _mm512_castps_pd(_mm512_maskz_loadu_ps(0xFF, eight));
  return _mm512_castpd_ps(_mm512_maskz_shuffle_f64x2(0xFF, half, half, 0x44));
}
VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512 each_eight_times(const float* two) {
  return _mm512_mask_mov_ps(_mm512_set1_ps(two[0]), 0xFF00, _mm512_set1_ps(two[1]));
}

// Whether a distance may be within its limit, in f32, where a handful of roundings, each of less than 2^-23 of a term, and what is lost
// near zero could hide that it is. What is no number may be. Of rows r and r + 1, with all queries.
constexpr float kShareOfTerms = 0x1p-20F;
constexpr float kNearZero = 1e-35F;

struct MayBeNearDot {
  __m512 scales;
  __m512 least;  // products that are not below this may be near

  VECDB_INLINE_FOR(VECDB_AVX512_TARGET) MayBeNearDot of(const CodeTileView& queries, const float* limits) {
    const __m512 products = _mm512_sub_ps(_mm512_setzero_ps(), twice(limits));
    // Infinity less infinity would be no number.
    const __m512 largest = _mm512_set1_ps(std::numeric_limits<float>::max());
    const __m512 sizes = _mm512_maskz_min_ps(0xFFFF, _mm512_abs_ps(products), largest);
    const __m512 errors = _mm512_fmadd_ps(sizes, _mm512_set1_ps(kShareOfTerms), _mm512_set1_ps(kNearZero));
    return {twice(queries.scales), _mm512_sub_ps(products, errors)};
  }
  __attribute__((target(VECDB_AVX512_TARGET), always_inline)) inline __mmask16 operator()(const CodeRows& rows, std::size_t r,
                                                                                          __m512 dots) const {
    const __m512 products = _mm512_mul_ps(_mm512_mul_ps(scales, each_eight_times(rows.scales + r)), dots);
    return _mm512_cmp_ps_mask(products, least, _CMP_NLT_UQ);
  }
};

struct MayBeNearL2 {
  __m512 scales;
  __m512 squared_norms;
  __m512 limits;

  VECDB_INLINE_FOR(VECDB_AVX512_TARGET) MayBeNearL2 of(const CodeTileView& queries, const float* limits) {
    return {twice(queries.scales), twice(queries.squared_norms), twice(limits)};
  }
  __attribute__((target(VECDB_AVX512_TARGET), always_inline)) inline __mmask16 operator()(const CodeRows& rows, std::size_t r,
                                                                                          __m512 dots) const {
    const __m512 products = _mm512_mul_ps(_mm512_mul_ps(scales, each_eight_times(rows.scales + r)), _mm512_add_ps(dots, dots));
    const __m512 norms = _mm512_add_ps(squared_norms, each_eight_times(rows.squared_norms + r));
    const __m512 terms = _mm512_add_ps(norms, _mm512_abs_ps(products));
    const __m512 errors = _mm512_fmadd_ps(terms, _mm512_set1_ps(kShareOfTerms), _mm512_set1_ps(kNearZero));
    return _mm512_cmp_ps_mask(_mm512_sub_ps(_mm512_sub_ps(norms, products), errors), limits, _CMP_NGT_UQ);
  }
};

// Eight dimensions of a row go to all queries, whose zeros let what lies beyond dim in a row not count. Most rows are far from every query:
// an estimate tells, for a third of what the distances would cost.
template <class Distance, class MayBeNear>
__attribute__((target(VECDB_VNNI_TARGET))) std::uint32_t vnni_tile(const CodeTileView& queries, const CodeRows& rows, std::size_t dim,
                                                                   const float* limits, float* distances) noexcept {
  __m512i sums[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm512_setzero_si512();
  for (std::size_t i = 0; i < dim; i += 8) {
    const __m512i codes = _mm512_loadu_si512(queries.octets + i * kTileQueries);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      sums[r] = _mm512_dpbusd_epi32(sums[r], lanes::plus_128(to_all(rows.codes[r] + i)), codes);
      // g++ would copy every sum before and after.
      __asm__("" : "+v"(sums[r]));
    }
  }
  const MayBeNear may_be_near = MayBeNear::of(queries, limits);
  const __m256i excess = times_128(lanes::load_256(queries.sums));
  const __m512i excess_twice = _mm512_maskz_broadcast_i64x4(0xFF, excess);
  __m512i dots[kBlockRows / 2];
  std::uint32_t near_queries[kBlockRows / 2];
  std::uint32_t any_near = 0;
#pragma GCC unroll 4
  for (std::size_t i = 0; i < kBlockRows / 2; ++i) {
    dots[i] = _mm512_sub_epi32(add_twos(sums[2 * i], sums[2 * i + 1]), excess_twice);
    near_queries[i] = may_be_near(rows, 2 * i, _mm512_maskz_cvtepi32_ps(0xFFFF, dots[i]));
    any_near |= near_queries[i];
  }
  if (any_near == 0) return 0;
  std::uint32_t near = 0;
  const Eight many{queries.scales, queries.squared_norms};
#pragma GCC unroll 4
  for (std::size_t i = 0; i < kBlockRows / 2; ++i) {
    if (near_queries[i] == 0) continue;
    near |= (static_cast<std::uint32_t>((near_queries[i] & 0xFF) != 0) | static_cast<std::uint32_t>(near_queries[i] > 0xFF) << 1) << 2 * i;
    float* const of_two = distances + 2 * i * kTileQueries;
    const __m256i first = _mm512_maskz_extracti64x4_epi64(0xF, dots[i], 0);
    const __m256i second = _mm512_maskz_extracti64x4_epi64(0xF, dots[i], 1);
    _mm256_storeu_ps(of_two, Distance::of(many, rows.measure(2 * i), first));
    _mm256_storeu_ps(of_two + kTileQueries, Distance::of(many, rows.measure(2 * i + 1), second));
  }
  return near;
}

#endif

}  // namespace

std::vector<CodeBlocks> available_code_blocks() {
  std::vector<CodeBlocks> all = {{"any", any_rows<CodeL2>, any_rows<CodeDot>, any_tile<CodeL2>, any_tile<CodeDot>}};
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) all.push_back({"avx2", avx2_rows<Avx2L2>, avx2_rows<Avx2Dot>, avx2_tile<Avx2L2>, avx2_tile<Avx2Dot>});
  const bool has_vnni = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (has_vnni)
    all.push_back(
        {"avx512vnni", vnni_rows<Avx512L2>, vnni_rows<Avx512Dot>, vnni_tile<Avx512L2, MayBeNearL2>, vnni_tile<Avx512Dot, MayBeNearDot>});
#endif
  return all;
}

const CodeBlocks& code_blocks() {
  static const CodeBlocks chosen = available_code_blocks().back();
  return chosen;
}

}  // namespace vecdb
