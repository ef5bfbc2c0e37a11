// Blocks by instruction set. Where eight queries meet a row, VNNI takes four dimensions of the row to all of them, so that each
// 32-bit lane sums for one query and nothing is left to add across lanes.

#include "code_blocks.hpp"

#include <algorithm>
#include <cstring>

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
void any_tile(const CodeTileView& queries, const CodeRows& rows, std::size_t dim, float* distances) noexcept {
  const CodeKernels& kernels = code_kernels();
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    for (std::size_t q = 0; q < kTileQueries; ++q) {
      const auto dot = static_cast<float>(kernels.dot_summed(queries.codes + q * queries.stride, queries.sums[q], rows.codes[r], dim));
      distances[r * kTileQueries + q] = Distance::of(queries.measure(q), rows.measure(r), dot);
    }
  }
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
__attribute__((target(VECDB_AVX2_TARGET))) void avx2_tile(const CodeTileView& queries, const CodeRows& rows, std::size_t dim,
                                                          float* distances) noexcept {
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
    finish<Distance>({queries.scales, queries.squared_norms}, rows.measure(r), lanes::add_lanes_of_8(sums), distances + r * kTileQueries);
  }
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

// 128 times the sum of each row's codes.
VECDB_INLINE_FOR(VECDB_VNNI_TARGET) __m256i excess_of(const CodeRows& rows, std::size_t dim) {
  const __m512i all_128 = _mm512_set1_epi8(-128);
  __m512i sums[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm512_dpbusd_epi32(sums[r], all_128, _mm512_loadu_si512(rows.codes[r] + i));
  }
  if (i < dim) {
    const __mmask64 rest = lanes::first_lanes(dim - i);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      sums[r] = _mm512_dpbusd_epi32(sums[r], all_128, _mm512_maskz_loadu_epi8(rest, rows.codes[r] + i));
    }
  }
  __m256i halves[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) halves[r] = lanes::add_halves(sums[r]);
  return lanes::add_lanes_of_8(halves);
}

VECDB_INLINE_FOR(VECDB_VNNI_TARGET) __m256i to_all(const void* four_bytes) {
  std::int32_t bits;
  std::memcpy(&bits, four_bytes, sizeof(bits));
  return _mm256_set1_epi32(bits);
}

// The factor without sign is the query's here, for the row's can then be spread from memory by the instruction itself.
template <class Distance>
__attribute__((target(VECDB_VNNI_TARGET))) void vnni_tile(const CodeTileView& queries, const CodeRows& rows, std::size_t dim,
                                                          float* distances) noexcept {
  alignas(32) std::int32_t excess[kBlockRows];
  const std::size_t whole = dim & ~std::size_t{3};
  _mm256_store_si256(static_cast<__m256i*>(static_cast<void*>(excess)), excess_of(rows, dim));
  __m256i sums[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm256_setzero_si256();
  for (std::size_t i = 0; i < whole; i += 4) {
    const __m256i codes = lanes::load_256(queries.quads + i * kTileQueries);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) sums[r] = _mm256_dpbusd_epi32(sums[r], codes, to_all(rows.codes[r] + i));
  }
  if (whole < dim) {
    const __m256i codes = lanes::load_256(queries.quads + whole * kTileQueries);
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      std::int8_t rest[4] = {};
      std::memcpy(rest, rows.codes[r] + whole, dim - whole);
      sums[r] = _mm256_dpbusd_epi32(sums[r], codes, to_all(rest));
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    const __m256i dots = _mm256_sub_epi32(sums[r], _mm256_set1_epi32(excess[r]));
    _mm256_storeu_ps(distances + r * kTileQueries, Distance::of({queries.scales, queries.squared_norms}, rows.measure(r), dots));
  }
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
  if (has_vnni) all.push_back({"avx512vnni", vnni_rows<Avx512L2>, vnni_rows<Avx512Dot>, vnni_tile<Avx512L2>, vnni_tile<Avx512Dot>});
#endif
  return all;
}

const CodeBlocks& code_blocks() {
  static const CodeBlocks chosen = available_code_blocks().back();
  return chosen;
}

}  // namespace vecdb
