// Distances of two rows to eight queries at once, with the bits of the kernels of one pair: a value that is in a register meets several
// others, and the lanes of many sums are added together. Pure functions.
#pragma once

#include <cstddef>

#include "types.hpp"

namespace vecdb {

constexpr std::size_t kTileRows = 2;

// out[r * kTileQueries + q]: of query q and row r of kTileRows, the very bits of Kernel(query, row). Query q starts at
// queries + q * stride.
using TileKernel = void (*)(const float* queries, std::size_t stride, const float* const* rows, std::size_t dim, float* out) noexcept;

struct TileKernels {
  TileKernel l2_squared;
  TileKernel dot;
};

#if defined(__x86_64__)
// For CPUs that have the instructions.
TileKernels avx2_tiles();
TileKernels avx512_tiles();
#elif defined(__aarch64__)
TileKernels neon_tiles();
#endif

}  // namespace vecdb
