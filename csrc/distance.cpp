// Kernels by instruction set, and the choice among them. Each sums in several independent lanes; the lanes are added in a
// fixed order at the end.

#include "distance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "distance_lanes.hpp"

namespace vecdb {
namespace {

using namespace lanes;

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

// For sets without a tile of their own: the row stays in the cache.
template <Kernel kernel>
void one_by_one(const float* queries, std::size_t stride, const float* const* rows, std::size_t dim, float* out) noexcept {
  for (std::size_t r = 0; r < kTileRows; ++r) {
    for (std::size_t q = 0; q < kTileQueries; ++q) out[r * kTileQueries + q] = kernel(queries + q * stride, rows[r], dim);
  }
}

#if defined(__x86_64__)

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

template <class Step>
__attribute__((target(VECDB_FMA_TARGET))) float avx2(const float* a, const float* b, std::size_t dim) noexcept {
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

template <class Step>
__attribute__((target(VECDB_FMA512_TARGET))) float avx512(const float* a, const float* b, std::size_t dim) noexcept {
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
    const __mmask16 rest = first_floats(dim - i);
    second = Step::add(second, _mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i));
  }
  return add_lanes(_mm512_add_ps(_mm512_add_ps(first, second), _mm512_add_ps(third, fourth)));
}

#elif defined(__aarch64__)

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
  return {name, l2_squared, dot, {one_by_one<l2_squared>, one_by_one<dot>}};
}

}  // namespace

std::vector<Kernels> available_kernels() {
  std::vector<Kernels> all = {without_tiles<plain<L2Step>, plain<DotStep>>("plain")};
#if defined(__x86_64__)
  all.push_back(without_tiles<sse2<Sse2L2>, sse2<Sse2Dot>>("sse2"));
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) all.push_back({"avx2", avx2<Avx2L2>, avx2<Avx2Dot>, avx2_tiles()});
  if (has_avx2 && __builtin_cpu_supports("avx512f")) all.push_back({"avx512", avx512<Avx512L2>, avx512<Avx512Dot>, avx512_tiles()});
#elif defined(__aarch64__)
  all.push_back({"neon", neon<NeonL2>, neon<NeonDot>, neon_tiles()});
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
