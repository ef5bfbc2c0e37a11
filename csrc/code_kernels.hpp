// Dot products of 8-bit codes, exact in integers, so that every set of kernels gives the same number. The best set that the
// CPU can run is chosen once, when first asked for. Safe from any thread.
// Codes are -127 to 127. A kernel may read a row up to the next multiple of kCodeBlock bytes; what it finds beyond dim
// does not count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vecdb {

constexpr std::size_t kCodeBlock = 32;
// The most dimensions one call may sum within 32 bits: 255 * 127 * 65536 < 2^31.
constexpr std::size_t kMaxCodeRun = std::size_t{1} << 16;
// Queries that a tile kernel compares with a row at once.
constexpr std::size_t kTileQueries = 8;

// Eight queries, each followed by zeros up to stride, a multiple of 64; sums[i] is the sum of query i's codes.
struct CodeTileView {
  const std::int8_t* codes;
  std::size_t stride;
  const std::int32_t* sums;
};

struct CodeKernels {
  const char* name;
  // The sum of a * b over dim codes.
  std::int32_t (*dot)(const std::int8_t* a, const std::int8_t* b, std::size_t dim) noexcept;
  // The same where the sum of a's codes is known, which saves some CPUs a step.
  std::int32_t (*dot_summed)(const std::int8_t* a, std::int32_t sum_of_a, const std::int8_t* b, std::size_t dim) noexcept;
  // dots[i]: query i with the row.
  void (*tile)(const CodeTileView& queries, const std::int8_t* row, std::size_t dim, std::int32_t* dots) noexcept;
};

// The kernels in use.
const CodeKernels& code_kernels();

// Every set that this CPU can run, plain C++ first, the one in use last.
std::vector<CodeKernels> available_code_kernels();

}  // namespace vecdb
