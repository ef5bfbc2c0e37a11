// Kernels by instruction set, and the choice among them. Each sums in several independent lanes; the lanes are added in a
// fixed order at the end.

#include "distance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace vecdb {
namespace {

// The step of both metrics, shared by the plain kernels and the tails of the others.
struct L2Step {
  static float of(float a, float b) { return (a - b) * (a - b); }
};
struct DotStep {
  static float of(float a, float b) { return a * b; }
};

template <class Step>
float plain(const float* a, const float* b, std::size_t dim) noexcept {
  float sums[4] = {0.0F, 0.0F, 0.0F, 0.0F};
  std::size_t i = 0;
  for (; i + 4 <= dim; i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) sums[lane] += Step::of(a[i + lane], b[i + lane]);
  }
  for (; i < dim; ++i) sums[0] += Step::of(a[i], b[i]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// For sets that gain little by more: the row stays in the cache.
template <Kernel kernel>
void one_by_one(const float* queries, std::size_t stride, const float* const* rows, std::size_t dim, float* out) noexcept {
  for (std::size_t r = 0; r < kTileRows; ++r) {
    for (std::size_t q = 0; q < kTileQueries; ++q) out[r * kTileQueries + q] = kernel(queries + q * stride, rows[r], dim);
  }
}

#if defined(__x86_64__)

float add_lanes(__m128 sum) {
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

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

template <class Step>
float sse2(const float* a, const float* b, std::size_t dim) noexcept {
  __m128 first = _mm_setzero_ps();
  __m128 second = _mm_setzero_ps();
  std::size_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    first = Step::add(first, _mm_loadu_ps(a + i), _mm_loadu_ps(b + i));
    second = Step::add(second, _mm_loadu_ps(a + i + 4), _mm_loadu_ps(b + i + 4));
  }
  float sum = add_lanes(_mm_add_ps(first, second));
  for (; i < dim; ++i) sum += Step::of(a[i], b[i]);
  return sum;
}

#define VECDB_AVX2 __attribute__((target("avx2,fma"), always_inline)) static inline

VECDB_AVX2 float add_lanes(__m256 sum) { return add_lanes(_mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1))); }

struct Avx2L2 : L2Step {
  VECDB_AVX2 __m256 add(__m256 sum, __m256 a, __m256 b) {
    const __m256 difference = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(difference, difference, sum);
  }
};
struct Avx2Dot : DotStep {
  VECDB_AVX2 __m256 add(__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); }
};

template <class Step>
__attribute__((target("avx2,fma"))) float avx2(const float* a, const float* b, std::size_t dim) noexcept {
  __m256 first = _mm256_setzero_ps();
  __m256 second = _mm256_setzero_ps();
  __m256 third = _mm256_setzero_ps();
  __m256 fourth = _mm256_setzero_ps();
  std::size_t i = 0;
  for (; i + 32 <= dim; i += 32) {
    first = Step::add(first, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
    second = Step::add(second, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
    third = Step::add(third, _mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16));
    fourth = Step::add(fourth, _mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24));
  }
  for (; i + 8 <= dim; i += 8) first = Step::add(first, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
  float sum = add_lanes(_mm256_add_ps(_mm256_add_ps(first, second), _mm256_add_ps(third, fourth)));
  for (; i < dim; ++i) sum += Step::of(a[i], b[i]);
  return sum;
}

#define VECDB_AVX512 __attribute__((target("avx512f,avx2,fma"), always_inline)) static inline

struct Avx512L2 {
  VECDB_AVX512 __m512 add(__m512 sum, __m512 a, __m512 b) {
    const __m512 difference = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(difference, difference, sum);
  }
};
struct Avx512Dot {
  VECDB_AVX512 __m512 add(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};

// Adds to sums what one of the four accumulators of a pair adds up: lanes [16 * part, 16 * part + 16) of every 64, then, the first of them,
// whole sixteens that are left, and, the second, the rest. Whatever the number of queries and rows, a pair's additions are the same.
template <class Step, std::size_t part, std::size_t queries, std::size_t rows>
VECDB_AVX512 void avx512_part(const float* query, std::size_t stride, const float* const* row, std::size_t dim, __m512 (*sums)[rows]) {
#pragma GCC unroll 4
  for (std::size_t q = 0; q < queries; ++q) {
#pragma GCC unroll 2
    for (std::size_t r = 0; r < rows; ++r) sums[q][r] = _mm512_setzero_ps();
  }
  const auto add = [&](std::size_t i, __mmask16 mask) __attribute__((target("avx512f,avx2,fma"), always_inline)) {
    __m512 values[rows];
#pragma GCC unroll 2
    for (std::size_t r = 0; r < rows; ++r) values[r] = _mm512_maskz_loadu_ps(mask, row[r] + i);
#pragma GCC unroll 4
    for (std::size_t q = 0; q < queries; ++q) {
      const __m512 of_query = _mm512_maskz_loadu_ps(mask, query + q * stride + i);
#pragma GCC unroll 2
      for (std::size_t r = 0; r < rows; ++r) sums[q][r] = Step::add(sums[q][r], of_query, values[r]);
    }
  };
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) add(i + 16 * part, 0xFFFF);
  if (part == 0) {
    for (; i + 16 <= dim; i += 16) add(i, 0xFFFF);
  }
  if (part == 1 && dim % 16 != 0) add(dim & ~std::size_t{15}, static_cast<__mmask16>((1U << (dim % 16)) - 1U));
}

VECDB_AVX512 __m256 add_halves(__m512 sum) {
  // The masked form, because g++ 12 warns of the undefined operand inside the plain one.
  const __m256d low = _mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(sum), 0);
  const __m256d high = _mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(sum), 1);
  return _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
}

template <class Step, std::size_t queries, std::size_t rows>
VECDB_AVX512 void avx512_sums(const float* query, std::size_t stride, const float* const* row, std::size_t dim, __m256 (*sums)[queries]) {
  __m512 first[queries][rows];
  __m512 second[queries][rows];
  __m512 third[queries][rows];
  avx512_part<Step, 0, queries, rows>(query, stride, row, dim, first);
  avx512_part<Step, 1, queries, rows>(query, stride, row, dim, second);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < queries * rows; ++i)
    first[i / rows][i % rows] = _mm512_add_ps(first[i / rows][i % rows], second[i / rows][i % rows]);
  avx512_part<Step, 2, queries, rows>(query, stride, row, dim, second);
  avx512_part<Step, 3, queries, rows>(query, stride, row, dim, third);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < queries * rows; ++i) {
    const __m512 second_half = _mm512_add_ps(second[i / rows][i % rows], third[i / rows][i % rows]);
    sums[i % rows][i / rows] = add_halves(_mm512_add_ps(first[i / rows][i % rows], second_half));
  }
}

// What add_lanes does to one vector, to four.
VECDB_AVX512 void add_lanes_of_4(const __m256* sums, float* out) {
  const __m256 of_01 = _mm256_add_ps(_mm256_permute2f128_ps(sums[0], sums[1], 0x20), _mm256_permute2f128_ps(sums[0], sums[1], 0x31));
  const __m256 of_23 = _mm256_add_ps(_mm256_permute2f128_ps(sums[2], sums[3], 0x20), _mm256_permute2f128_ps(sums[2], sums[3], 0x31));
  const __m256d firsts = _mm256_unpacklo_pd(_mm256_castps_pd(of_01), _mm256_castps_pd(of_23));
  const __m256d seconds = _mm256_unpackhi_pd(_mm256_castps_pd(of_01), _mm256_castps_pd(of_23));
  const __m256 pairs = _mm256_add_ps(_mm256_castpd_ps(firsts), _mm256_castpd_ps(seconds));
  const __m128 of_02 = _mm256_castps256_ps128(pairs);
  const __m128 of_13 = _mm256_extractf128_ps(pairs, 1);
  const __m128 of_0213 = _mm_add_ps(_mm_shuffle_ps(of_02, of_13, 0x88), _mm_shuffle_ps(of_02, of_13, 0xDD));
  _mm_storeu_ps(out, _mm_shuffle_ps(of_0213, of_0213, 0xD8));
}

template <class Step>
__attribute__((target("avx512f,avx2,fma"))) float avx512(const float* a, const float* b, std::size_t dim) noexcept {
  __m512 first = _mm512_setzero_ps();
  __m512 second = _mm512_setzero_ps();
  __m512 third = _mm512_setzero_ps();
  __m512 fourth = _mm512_setzero_ps();
  std::size_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    first = Step::add(first, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
    second = Step::add(second, _mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16));
    third = Step::add(third, _mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32));
    fourth = Step::add(fourth, _mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48));
  }
  for (; i + 16 <= dim; i += 16) first = Step::add(first, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
  if (i < dim) {
    const __mmask16 rest = static_cast<__mmask16>((1U << (dim - i)) - 1U);
    second = Step::add(second, _mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i));
  }
  return add_lanes(add_halves(_mm512_add_ps(_mm512_add_ps(first, second), _mm512_add_ps(third, fourth))));
}

template <class Step>
__attribute__((target("avx512f,avx2,fma"))) void avx512_tile(const float* queries, std::size_t stride, const float* const* rows,
                                                             std::size_t dim, float* out) noexcept {
  constexpr std::size_t kAtOnce = 4;  // queries: with two rows, their accumulators stay in registers
  for (std::size_t q = 0; q < kTileQueries; q += kAtOnce) {
    __m256 sums[kTileRows][kAtOnce];
    avx512_sums<Step, kAtOnce, kTileRows>(queries + q * stride, stride, rows, dim, sums);
#pragma GCC unroll 2
    for (std::size_t r = 0; r < kTileRows; ++r) add_lanes_of_4(sums[r], out + r * kTileQueries + q);
  }
}

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

template <class Step>
float neon(const float* a, const float* b, std::size_t dim) noexcept {
  float32x4_t sums[4] = {vdupq_n_f32(0.0F), vdupq_n_f32(0.0F), vdupq_n_f32(0.0F), vdupq_n_f32(0.0F)};
  std::size_t i = 0;
  for (; i + 16 <= dim; i += 16) {
    for (std::size_t part = 0; part < 4; ++part) {
      sums[part] = Step::add(sums[part], vld1q_f32(a + i + 4 * part), vld1q_f32(b + i + 4 * part));
    }
  }
  for (; i + 4 <= dim; i += 4) sums[0] = Step::add(sums[0], vld1q_f32(a + i), vld1q_f32(b + i));
  float sum = vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
  for (; i < dim; ++i) sum += Step::of(a[i], b[i]);
  return sum;
}

#endif

template <Kernel l2_squared, Kernel dot>
Kernels without_tiles(const char* name) {
  return {name, l2_squared, dot, one_by_one<l2_squared>, one_by_one<dot>};
}

}  // namespace

std::vector<Kernels> available_kernels() {
  std::vector<Kernels> all = {without_tiles<plain<L2Step>, plain<DotStep>>("plain")};
#if defined(__x86_64__)
  all.push_back(without_tiles<sse2<Sse2L2>, sse2<Sse2Dot>>("sse2"));
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) all.push_back(without_tiles<avx2<Avx2L2>, avx2<Avx2Dot>>("avx2"));
  if (has_avx2 && __builtin_cpu_supports("avx512f")) {
    all.push_back({"avx512", avx512<Avx512L2>, avx512<Avx512Dot>, avx512_tile<Avx512L2>, avx512_tile<Avx512Dot>});
  }
#elif defined(__aarch64__)
  all.push_back(without_tiles<neon<NeonL2>, neon<NeonDot>>("neon"));
#endif
  return all;
}

const Kernels& kernels() {
  static const Kernels chosen = available_kernels().back();
  return chosen;
}

namespace {

double dot_in_double(const float* a, const float* b, std::size_t dim) {
  double sums[4] = {0.0, 0.0, 0.0, 0.0};
  std::size_t i = 0;
  for (; i + 4 <= dim; i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
  }
  for (; i < dim; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

double norm(const float* a, std::size_t dim) noexcept { return std::sqrt(dot_in_double(a, a, dim)); }

float inverse_norm(const float* a, std::size_t dim) noexcept {
  const double length = norm(a, dim);
  if (length == 0.0) return 0.0F;
  return static_cast<float>(std::min(1.0 / length, static_cast<double>(std::numeric_limits<float>::max())));
}

float cosine_in_double(const float* a, const float* b, std::size_t dim) noexcept {
  const double lengths = norm(a, dim) * norm(b, dim);
  return lengths > 0.0 ? static_cast<float>(dot_in_double(a, b, dim) / lengths) : 0.0F;
}

}  // namespace vecdb
