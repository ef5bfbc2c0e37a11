// Steps over lanes of floats that the kernels of one pair and those of tiles share: what makes the bits of both the same. Each is inlined
// into a kernel that is compiled for its instructions. Pure functions.
#pragma once

#include <cstddef>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace vecdb::lanes {

// The step of both metrics, for one component: the plain kernels', and that of what is left over by others.
struct L2Step {
  static float of(float a, float b) { return (a - b) * (a - b); }
};
struct DotStep {
  static float of(float a, float b) { return a * b; }
};

#if defined(__x86_64__)

#define VECDB_FMA_TARGET "avx2,fma"
#define VECDB_FMA512_TARGET "avx512f,avx2,fma"
#define VECDB_FMA __attribute__((target(VECDB_FMA_TARGET), always_inline)) static inline
#define VECDB_FMA512 __attribute__((target(VECDB_FMA512_TARGET), always_inline)) static inline

// SSE2 is part of every x86-64 CPU.
struct Sse2L2 : L2Step {
  static __m128 add(__m128 sum, __m128 a, __m128 b) {
    const __m128 difference = _mm_sub_ps(a, b);
    return _mm_add_ps(sum, _mm_mul_ps(difference, difference));
  }
};
struct Sse2Dot : DotStep {
  static __m128 add(__m128 sum, __m128 a, __m128 b) { return _mm_add_ps(sum, _mm_mul_ps(a, b)); }
};

// unfused: of eight pairs, as L2Step and DotStep round.
struct Avx2L2 : L2Step {
  VECDB_FMA __m256 add(__m256 sum, __m256 a, __m256 b) {
    const __m256 difference = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(difference, difference, sum);
  }
  VECDB_FMA __m256 unfused(__m256 a, __m256 b) {
    const __m256 difference = _mm256_sub_ps(a, b);
    return _mm256_mul_ps(difference, difference);
  }
};
struct Avx2Dot : DotStep {
  VECDB_FMA __m256 add(__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); }
  VECDB_FMA __m256 unfused(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
};

struct Avx512L2 {
  VECDB_FMA512 __m512 add(__m512 sum, __m512 a, __m512 b) {
    const __m512 difference = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(difference, difference, sum);
  }
};
struct Avx512Dot {
  VECDB_FMA512 __m512 add(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};

// Halves of a sum are added until one lane is left: 16, 8, 4, 2. Tiles do the same to many sums at once.
inline float add_lanes(__m128 sum) {
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

VECDB_FMA float add_lanes(__m256 sum) { return add_lanes(_mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1))); }

VECDB_FMA512 float add_lanes(__m512 sum) {
  // The masked form, because g++ 12 warns of the undefined operand inside the plain one.
  const __m256d low = _mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(sum), 0);
  const __m256d high = _mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(sum), 1);
  return add_lanes(_mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high)));
}

// REQUIRES: n < 16.
VECDB_FMA512 __mmask16 first_floats(std::size_t n) { return static_cast<__mmask16>((1U << n) - 1U); }

#elif defined(__aarch64__)

// NEON is part of every AArch64 CPU.
struct NeonL2 : L2Step {
  static float32x4_t add(float32x4_t sum, float32x4_t a, float32x4_t b) {
    const float32x4_t difference = vsubq_f32(a, b);
    return vfmaq_f32(sum, difference, difference);
  }
};
struct NeonDot : DotStep {
  static float32x4_t add(float32x4_t sum, float32x4_t a, float32x4_t b) { return vfmaq_f32(sum, a, b); }
};

#endif

}  // namespace vecdb::lanes
