// Steps over lanes of codes that the kernels of x86 CPUs share. Each is inlined into a kernel that is compiled for its instructions.
// Pure functions.
#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace vecdb::lanes {

#define VECDB_AVX2_TARGET "avx2"
#define VECDB_AVX512_TARGET "avx512f,avx512bw,avx512vl,avx2"
#define VECDB_VNNI_TARGET VECDB_AVX512_TARGET ",avx512vnni"
#define VECDB_INLINE_FOR(instructions) __attribute__((target(instructions), always_inline)) static inline

VECDB_INLINE_FOR(VECDB_AVX2_TARGET) __m256i load_256(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

// Adds products of a and b, of 8 bits each, in 32. The instruction wants one factor without sign: the sign of a moves to b.
VECDB_INLINE_FOR(VECDB_AVX2_TARGET) __m256i add_products(__m256i sum, __m256i a, __m256i size_of_a, __m256i b) {
  const __m256i pairs = _mm256_maddubs_epi16(size_of_a, _mm256_sign_epi8(b, a));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// The sums of eight vectors' lanes, in order.
VECDB_INLINE_FOR(VECDB_AVX2_TARGET) __m256i add_lanes_of_8(const __m256i* sums) {
  const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
  const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

// REQUIRES: 1 <= n <= 64.
VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __mmask64 first_lanes(std::size_t n) { return ~__mmask64{0} >> (64 - n); }

VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m256i add_halves(__m512i sum) {
  // The masked form, because g++ 12 warns of the undefined operand inside the plain one.
  return _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xF, sum, 0), _mm512_maskz_extracti64x4_epi64(0xF, sum, 1));
}

// VNNI wants one factor without sign: b + 128, which adds 128 times the sum of a.
VECDB_INLINE_FOR(VECDB_AVX512_TARGET) __m512i plus_128(__m512i b) { return _mm512_xor_si512(b, _mm512_set1_epi8(-128)); }

}  // namespace vecdb::lanes

#endif
