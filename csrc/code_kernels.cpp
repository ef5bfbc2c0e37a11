// Dot products of codes by instruction set, and the choice among them. Products of two codes are summed without any
// saturation: in 16 bits only in pairs (2 * 127 * 127 < 2^15), from there on in 32.

#include "code_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#if defined(__ARM_FEATURE_DOTPROD)
#define VECDB_DOTPROD
#elif defined(__linux__) && !defined(__clang__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
// clang declares the instruction only to code that is compiled for it as a whole.
#define VECDB_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#endif

namespace vecdb {
namespace {

using Codes8 = const std::int8_t*;
using Dot = std::int32_t (*)(Codes8, Codes8, std::size_t) noexcept;

std::int32_t plain(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < dim; ++i) sum += static_cast<std::int32_t>(a[i]) * static_cast<std::int32_t>(b[i]);
  return sum;
}

// The other kernels, for sets that gain nothing by more.
template <Dot dot>
std::int32_t ignore_sum(Codes8 a, std::int32_t, Codes8 b, std::size_t dim) noexcept {
  return dot(a, b, dim);
}
template <Dot dot, class Distance>
void one_by_one(const CodeTileView& queries, Codes8 row, const CodeMeasure& of_row, std::size_t dim, float* distances) noexcept {
  std::int32_t dots[kTileQueries];
  for (std::size_t q = 0; q < kTileQueries; ++q) dots[q] = dot(queries.codes + q * queries.stride, row, dim);
  for (std::size_t q = 0; q < kTileQueries; ++q) {
    distances[q] = Distance::of({queries.scales[q], queries.squared_norms[q]}, of_row, static_cast<float>(dots[q]));
  }
}

#if defined(__x86_64__) || defined(__aarch64__)
// tail_mask(n): kCodeBlock bytes of which the first n are all ones.
struct TailMasks {
  std::int8_t bytes[2 * kCodeBlock];
};
constexpr TailMasks make_tail_masks() {
  TailMasks masks{};
  for (std::size_t i = 0; i < kCodeBlock; ++i) masks.bytes[i] = -1;
  return masks;
}
alignas(64) constexpr TailMasks kTailMasks = make_tail_masks();
Codes8 tail_mask(std::size_t n) { return kTailMasks.bytes + kCodeBlock - n; }
#endif

#if defined(__x86_64__)

__m128i load_128(Codes8 codes) { return _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(codes))); }

// SSE2 is part of every x86-64 CPU.
__m128i sse2_add(__m128i sum, __m128i a, __m128i b) {
  // A byte unpacked with itself and shifted back is the byte with its sign extended.
  const __m128i low = _mm_madd_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8), _mm_srai_epi16(_mm_unpacklo_epi8(b, b), 8));
  const __m128i high = _mm_madd_epi16(_mm_srai_epi16(_mm_unpackhi_epi8(a, a), 8), _mm_srai_epi16(_mm_unpackhi_epi8(b, b), 8));
  return _mm_add_epi32(sum, _mm_add_epi32(low, high));
}

std::int32_t add_lanes(__m128i sum) {
  sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 1)));
}

std::int32_t sse2(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  __m128i sum = _mm_setzero_si128();
  std::size_t i = 0;
  for (; i + 16 <= dim; i += 16) sum = sse2_add(sum, load_128(a + i), load_128(b + i));
  if (i < dim) sum = sse2_add(sum, _mm_and_si128(load_128(a + i), load_128(tail_mask(dim - i))), load_128(b + i));
  return add_lanes(sum);
}

#define VECDB_AVX2 __attribute__((target("avx2"), always_inline)) static inline

VECDB_AVX2 __m256i load_256(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

// The instruction wants one factor without sign: the sign of a moves to b.
VECDB_AVX2 __m256i avx2_add(__m256i sum, __m256i a, __m256i size_of_a, __m256i b) {
  const __m256i pairs = _mm256_maddubs_epi16(size_of_a, _mm256_sign_epi8(b, a));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
VECDB_AVX2 __m256i avx2_add(__m256i sum, __m256i a, __m256i b) { return avx2_add(sum, a, _mm256_abs_epi8(a), b); }

VECDB_AVX2 std::int32_t add_lanes(__m256i sum) {
  return add_lanes(_mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)));
}

__attribute__((target("avx2"))) std::int32_t avx2(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  __m256i first = _mm256_setzero_si256();
  __m256i second = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    first = avx2_add(first, load_256(a + i), load_256(b + i));
    second = avx2_add(second, load_256(a + i + 32), load_256(b + i + 32));
  }
  if (i + 32 <= dim) {
    first = avx2_add(first, load_256(a + i), load_256(b + i));
    i += 32;
  }
  if (i < dim) second = avx2_add(second, _mm256_and_si256(load_256(a + i), load_256(tail_mask(dim - i))), load_256(b + i));
  return add_lanes(_mm256_add_epi32(first, second));
}

// The sums of eight vectors' lanes, in order.
VECDB_AVX2 __m256i add_lanes_of_8(const __m256i* sums) {
  const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
  const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

// CodeL2 and CodeDot, four at once.
struct Avx2L2 {
  VECDB_AVX2 __m128 of(const float* scales, const float* squared_norms, const CodeMeasure& row, __m128i dots) {
    const __m256d wide_scales = _mm256_cvtps_pd(_mm_mul_ps(_mm_loadu_ps(scales), _mm_set1_ps(row.scale)));
    const __m256d products = _mm256_mul_pd(wide_scales, _mm256_cvtps_pd(_mm_cvtepi32_ps(dots)));
    const __m256d norms =
        _mm256_add_pd(_mm256_cvtps_pd(_mm_loadu_ps(squared_norms)), _mm256_set1_pd(static_cast<double>(row.squared_norm)));
    return _mm256_cvtpd_ps(_mm256_max_pd(_mm256_sub_pd(norms, _mm256_add_pd(products, products)), _mm256_setzero_pd()));
  }
};
struct Avx2Dot {
  VECDB_AVX2 __m128 of(const float* scales, const float*, const CodeMeasure& row, __m128i dots) {
    const __m256d wide_scales = _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(scales)), _mm256_set1_pd(static_cast<double>(row.scale)));
    const __m256d products = _mm256_mul_pd(wide_scales, _mm256_cvtps_pd(_mm_cvtepi32_ps(dots)));
    return _mm_xor_ps(_mm256_cvtpd_ps(products), _mm_set1_ps(-0.0F));
  }
};

template <class Distance>
VECDB_AVX2 void finish_tile(const CodeTileView& queries, __m256i dots, const CodeMeasure& of_row, float* distances) {
  const __m128 low = Distance::of(queries.scales, queries.squared_norms, of_row, _mm256_castsi256_si128(dots));
  const __m128 high = Distance::of(queries.scales + 4, queries.squared_norms + 4, of_row, _mm256_extracti128_si256(dots, 1));
  _mm_storeu_ps(distances, low);
  _mm_storeu_ps(distances + 4, high);
}

template <class Distance>
__attribute__((target("avx2"))) void avx2_tile(const CodeTileView& queries, Codes8 row, const CodeMeasure& of_row, std::size_t dim,
                                               float* distances) noexcept {
  __m256i sums[kTileQueries];
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kTileQueries; ++q) sums[q] = _mm256_setzero_si256();
  // Zeros follow the queries' codes, so that what lies beyond the row's does not count.
  for (std::size_t i = 0; i < dim; i += 32) {
    const __m256i codes = load_256(row + i);
    const __m256i sizes = _mm256_abs_epi8(codes);
    const std::int8_t* query = queries.codes + i;
#pragma GCC unroll 8
    for (std::size_t q = 0; q < kTileQueries; ++q, query += queries.stride) sums[q] = avx2_add(sums[q], codes, sizes, load_256(query));
  }
  finish_tile<Distance>(queries, add_lanes_of_8(sums), of_row, distances);
}

#define VECDB_AVX512_TARGET "avx512f,avx512bw,avx512vl,avx2"
#define VECDB_AVX512 __attribute__((target(VECDB_AVX512_TARGET), always_inline)) static inline

VECDB_AVX512 __mmask64 first_lanes(std::size_t n) { return ~__mmask64{0} >> (64 - n); }

VECDB_AVX512 __m256i add_halves(__m512i sum) {
  // The masked form, because g++ 12 warns of the undefined operand inside the plain one.
  return _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xF, sum, 0), _mm512_maskz_extracti64x4_epi64(0xF, sum, 1));
}

VECDB_AVX512 __m512i avx512_add(__m512i sum, __m512i a, __m512i b) {
  const __m512i signed_b = _mm512_mask_sub_epi8(b, _mm512_movepi8_mask(a), _mm512_setzero_si512(), b);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(a), signed_b), _mm512_set1_epi16(1)));
}

__attribute__((target(VECDB_AVX512_TARGET))) std::int32_t avx512(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  __m512i sum = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) sum = avx512_add(sum, _mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i));
  if (i < dim) {
    const __mmask64 rest = first_lanes(dim - i);
    sum = avx512_add(sum, _mm512_maskz_loadu_epi8(rest, a + i), _mm512_maskz_loadu_epi8(rest, b + i));
  }
  return add_lanes(add_halves(sum));
}

#define VECDB_VNNI_TARGET VECDB_AVX512_TARGET ",avx512vnni"
#define VECDB_VNNI __attribute__((target(VECDB_VNNI_TARGET), always_inline)) static inline

// The instruction wants one factor without sign: b + 128, which adds 128 times the sum of a.
VECDB_VNNI __m512i plus_128(__m512i b) { return _mm512_xor_si512(b, _mm512_set1_epi8(-128)); }

__attribute__((target(VECDB_VNNI_TARGET))) std::int32_t vnni_summed(Codes8 a, std::int32_t sum_of_a, Codes8 b, std::size_t dim) noexcept {
  __m512i first = _mm512_setzero_si512();
  __m512i second = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 128 <= dim; i += 128) {
    first = _mm512_dpbusd_epi32(first, plus_128(_mm512_loadu_si512(b + i)), _mm512_loadu_si512(a + i));
    second = _mm512_dpbusd_epi32(second, plus_128(_mm512_loadu_si512(b + i + 64)), _mm512_loadu_si512(a + i + 64));
  }
  if (i + 64 <= dim) {
    first = _mm512_dpbusd_epi32(first, plus_128(_mm512_loadu_si512(b + i)), _mm512_loadu_si512(a + i));
    i += 64;
  }
  if (i < dim) {
    const __mmask64 rest = first_lanes(dim - i);
    second = _mm512_dpbusd_epi32(second, plus_128(_mm512_maskz_loadu_epi8(rest, b + i)), _mm512_maskz_loadu_epi8(rest, a + i));
  }
  return add_lanes(add_halves(_mm512_add_epi32(first, second))) - 128 * sum_of_a;
}

__attribute__((target(VECDB_VNNI_TARGET))) std::int32_t vnni(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  const __m512i all_128 = _mm512_set1_epi8(-128);
  __m512i sum = _mm512_setzero_si512();
  __m512i excess = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    const __m512i codes = _mm512_loadu_si512(a + i);
    sum = _mm512_dpbusd_epi32(sum, plus_128(_mm512_loadu_si512(b + i)), codes);
    excess = _mm512_dpbusd_epi32(excess, all_128, codes);
  }
  if (i < dim) {
    const __mmask64 rest = first_lanes(dim - i);
    const __m512i codes = _mm512_maskz_loadu_epi8(rest, a + i);
    sum = _mm512_dpbusd_epi32(sum, plus_128(_mm512_maskz_loadu_epi8(rest, b + i)), codes);
    excess = _mm512_dpbusd_epi32(excess, all_128, codes);
  }
  return add_lanes(add_halves(_mm512_sub_epi32(sum, excess)));
}

template <class Distance>
__attribute__((target(VECDB_VNNI_TARGET))) void vnni_tile(const CodeTileView& queries, Codes8 row, const CodeMeasure& of_row,
                                                          std::size_t dim, float* distances) noexcept {
  __m512i sums[kTileQueries];
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kTileQueries; ++q) sums[q] = _mm512_setzero_si512();
  for (std::size_t i = 0; i < dim; i += 64) {
    const __m512i codes = plus_128(dim - i >= 64 ? _mm512_loadu_si512(row + i) : _mm512_maskz_loadu_epi8(first_lanes(dim - i), row + i));
    const std::int8_t* query = queries.codes + i;
#pragma GCC unroll 8
    for (std::size_t q = 0; q < kTileQueries; ++q, query += queries.stride) {
      sums[q] = _mm512_dpbusd_epi32(sums[q], codes, _mm512_loadu_si512(query));
    }
  }
  __m256i halves[kTileQueries];
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kTileQueries; ++q) halves[q] = add_halves(sums[q]);
  const __m256i excess = _mm256_slli_epi32(load_256(queries.sums), 7);
  finish_tile<Distance>(queries, _mm256_sub_epi32(add_lanes_of_8(halves), excess), of_row, distances);
}

#elif defined(__aarch64__)

// NEON is part of every AArch64 CPU.
int32x4_t neon_add(int32x4_t sum, int8x16_t a, int8x16_t b) {
  sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
  return vpadalq_s16(sum, vmull_high_s8(a, b));
}

std::int32_t neon(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  int32x4_t sum = vdupq_n_s32(0);
  std::size_t i = 0;
  for (; i + 16 <= dim; i += 16) sum = neon_add(sum, vld1q_s8(a + i), vld1q_s8(b + i));
  if (i < dim) sum = neon_add(sum, vandq_s8(vld1q_s8(a + i), vld1q_s8(tail_mask(dim - i))), vld1q_s8(b + i));
  return vaddvq_s32(sum);
}

#if defined(VECDB_DOTPROD)
VECDB_DOTPROD std::int32_t neon_dotprod(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  int32x4_t first = vdupq_n_s32(0);
  int32x4_t second = vdupq_n_s32(0);
  std::size_t i = 0;
  for (; i + 32 <= dim; i += 32) {
    first = vdotq_s32(first, vld1q_s8(a + i), vld1q_s8(b + i));
    second = vdotq_s32(second, vld1q_s8(a + i + 16), vld1q_s8(b + i + 16));
  }
  if (i + 16 <= dim) {
    first = vdotq_s32(first, vld1q_s8(a + i), vld1q_s8(b + i));
    i += 16;
  }
  if (i < dim) second = vdotq_s32(second, vandq_s8(vld1q_s8(a + i), vld1q_s8(tail_mask(dim - i))), vld1q_s8(b + i));
  return vaddvq_s32(vaddq_s32(first, second));
}

bool has_dotprod() {
#if defined(__ARM_FEATURE_DOTPROD)
  return true;
#else
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
}
#endif

#endif

template <Dot dot>
CodeKernels with_dot(const char* name) {
  return {name, dot, ignore_sum<dot>, one_by_one<dot, CodeL2>, one_by_one<dot, CodeDot>};
}

}  // namespace

std::vector<CodeKernels> available_code_kernels() {
  std::vector<CodeKernels> all = {with_dot<plain>("plain")};
#if defined(__x86_64__)
  all.push_back(with_dot<sse2>("sse2"));
  const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) all.push_back({"avx2", avx2, ignore_sum<avx2>, avx2_tile<Avx2L2>, avx2_tile<Avx2Dot>});
  const bool has_avx512 =
      has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) all.push_back(with_dot<avx512>("avx512bw"));
  if (has_avx512 && __builtin_cpu_supports("avx512vnni"))
    all.push_back({"avx512vnni", vnni, vnni_summed, vnni_tile<Avx2L2>, vnni_tile<Avx2Dot>});
#elif defined(__aarch64__)
  all.push_back(with_dot<neon>("neon"));
#if defined(VECDB_DOTPROD)
  if (has_dotprod()) all.push_back(with_dot<neon_dotprod>("neon dotprod"));
#endif
#endif
  return all;
}

const CodeKernels& code_kernels() {
  static const CodeKernels chosen = available_code_kernels().back();
  return chosen;
}

}  // namespace vecdb
