// Dot products of codes by instruction set, and the choice among them. Products of two codes are summed without any
// saturation: in 16 bits only in pairs (2 * 127 * 127 < 2^15), from there on in 32.

#include "code_kernels.hpp"

#if defined(__x86_64__)
#include "code_lanes.hpp"
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

VECDB_INLINE_FOR(VECDB_AVX2_TARGET) __m256i avx2_add(__m256i sum, __m256i a, __m256i b) {
  return lanes::add_products(sum, a, _mm256_abs_epi8(a), b);
}

VECDB_INLINE_FOR(VECDB_AVX2_TARGET) std::int32_t add_lanes(__m256i sum) {
  return add_lanes(_mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)));
}

__attribute__((target(VECDB_AVX2_TARGET))) std::int32_t avx2(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  __m256i first = _mm256_setzero_si256();
  __m256i second = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    first = avx2_add(first, lanes::load_256(a + i), lanes::load_256(b + i));
    second = avx2_add(second, lanes::load_256(a + i + 32), lanes::load_256(b + i + 32));
  }
  if (i + 32 <= dim) {
    first = avx2_add(first, lanes::load_256(a + i), lanes::load_256(b + i));
    i += 32;
  }
  if (i < dim)
    second = avx2_add(second, _mm256_and_si256(lanes::load_256(a + i), lanes::load_256(tail_mask(dim - i))), lanes::load_256(b + i));
  return add_lanes(_mm256_add_epi32(first, second));
}

VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512i avx512_add(__m512i sum, __m512i a, __m512i b) {
  const __m512i signed_b = _mm512_mask_sub_epi8(b, _mm512_movepi8_mask(a), _mm512_setzero_si512(), b);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(a), signed_b), _mm512_set1_epi16(1)));
}

__attribute__((target(VECDB_AVX512_TARGET))) std::int32_t avx512(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  __m512i sum = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) sum = avx512_add(sum, _mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i));
  if (i < dim) {
    const __mmask64 rest = lanes::first_lanes(dim - i);
    sum = avx512_add(sum, _mm512_maskz_loadu_epi8(rest, a + i), _mm512_maskz_loadu_epi8(rest, b + i));
  }
  return add_lanes(lanes::add_halves(sum));
}

__attribute__((target(VECDB_VNNI_TARGET))) std::int32_t vnni_summed(Codes8 a, std::int32_t sum_of_a, Codes8 b, std::size_t dim) noexcept {
  __m512i first = _mm512_setzero_si512();
  __m512i second = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 128 <= dim; i += 128) {
    first = _mm512_dpbusd_epi32(first, lanes::plus_128(_mm512_loadu_si512(b + i)), _mm512_loadu_si512(a + i));
    second = _mm512_dpbusd_epi32(second, lanes::plus_128(_mm512_loadu_si512(b + i + 64)), _mm512_loadu_si512(a + i + 64));
  }
  if (i + 64 <= dim) {
    first = _mm512_dpbusd_epi32(first, lanes::plus_128(_mm512_loadu_si512(b + i)), _mm512_loadu_si512(a + i));
    i += 64;
  }
  if (i < dim) {
    const __mmask64 rest = lanes::first_lanes(dim - i);
    second = _mm512_dpbusd_epi32(second, lanes::plus_128(_mm512_maskz_loadu_epi8(rest, b + i)), _mm512_maskz_loadu_epi8(rest, a + i));
  }
  return add_lanes(lanes::add_halves(_mm512_add_epi32(first, second))) - 128 * sum_of_a;
}

__attribute__((target(VECDB_VNNI_TARGET))) std::int32_t vnni(Codes8 a, Codes8 b, std::size_t dim) noexcept {
  const __m512i all_128 = _mm512_set1_epi8(-128);
  __m512i sum = _mm512_setzero_si512();
  __m512i excess = _mm512_setzero_si512();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    const __m512i codes = _mm512_loadu_si512(a + i);
    sum = _mm512_dpbusd_epi32(sum, lanes::plus_128(_mm512_loadu_si512(b + i)), codes);
    excess = _mm512_dpbusd_epi32(excess, all_128, codes);
  }
  if (i < dim) {
    const __mmask64 rest = lanes::first_lanes(dim - i);
    const __m512i codes = _mm512_maskz_loadu_epi8(rest, a + i);
    sum = _mm512_dpbusd_epi32(sum, lanes::plus_128(_mm512_maskz_loadu_epi8(rest, b + i)), codes);
    excess = _mm512_dpbusd_epi32(excess, all_128, codes);
  }
  return add_lanes(lanes::add_halves(_mm512_sub_epi32(sum, excess)));
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
  return {name, dot, ignore_sum<dot>};
}

}  // namespace

std::vector<CodeKernels> available_code_kernels() {
  std::vector<CodeKernels> all = {with_dot<plain>("plain")};
#if defined(__x86_64__)
  all.push_back(with_dot<sse2>("sse2"));
  const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) all.push_back(with_dot<avx2>("avx2"));
  const bool has_avx512 =
      has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) all.push_back(with_dot<avx512>("avx512bw"));
  if (has_avx512 && __builtin_cpu_supports("avx512vnni")) all.push_back({"avx512vnni", vnni, vnni_summed});
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
