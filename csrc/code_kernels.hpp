// Dot products of 8-bit codes, exact in integers, and the distances that follow from them: the same bits from every set of
// kernels. The best set that the CPU can run is chosen once, when first asked for. Safe from any thread.
// Codes are -127 to 127. A kernel may read a row up to the next multiple of kCodeBlock bytes; what it finds beyond dim
// does not count.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vecdb {

constexpr std::size_t kCodeBlock = 32;
// The most dimensions one call may sum within 32 bits: 255 * 127 * 65536 < 2^31.
constexpr std::size_t kMaxCodeRun = std::size_t{1} << 16;

// What a distance needs of a vector beside its codes c.
struct CodeMeasure {
  float scale;         // l2, dot: of least squares for c; cosine: 1 / |c|, since a cosine has no use for length; 0 for a zero vector
  float squared_norm;  // of scale * c, under l2 only; infinite, with scale 0, for what is infinitely far from all else
};

// Kernel distances from the exact sum of c * d. A product is exact, or rounded before anything is added to it: so a compiler
// that fuses multiplication and addition in one place and not in another changes no bit.
struct CodeL2 {
  static float of(const CodeMeasure& a, const CodeMeasure& b, float dot) {
    const float scales = a.scale * b.scale;
    const double products = static_cast<double>(scales) * static_cast<double>(dot);
    const double squared = (static_cast<double>(a.squared_norm) + static_cast<double>(b.squared_norm)) - 2.0 * products;
    // The larger of squared and 0, without a branch.
    return static_cast<float>(0.5 * (squared + std::fabs(squared)));
  }
};
struct CodeDot {
  static float of(const CodeMeasure& a, const CodeMeasure& b, float dot) {
    return static_cast<float>(-(static_cast<double>(a.scale) * static_cast<double>(b.scale) * static_cast<double>(dot)));
  }
};

struct CodeKernels {
  const char* name;
  // The sum of a * b over dim codes.
  std::int32_t (*dot)(const std::int8_t* a, const std::int8_t* b, std::size_t dim) noexcept;
  // The same where the sum of a's codes is known, which saves some CPUs a step.
  std::int32_t (*dot_summed)(const std::int8_t* a, std::int32_t sum_of_a, const std::int8_t* b, std::size_t dim) noexcept;
};

// The kernels in use.
const CodeKernels& code_kernels();

// Every set that this CPU can run, plain C++ first, the one in use last.
std::vector<CodeKernels> available_code_kernels();

}  // namespace vecdb
