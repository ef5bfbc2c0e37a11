// Distance kernels over f32. The best set that the CPU can run is chosen once, when first asked for; a kernel always adds
// up in the same order, so that a pair of vectors gets the same bits on whatever path it is met. Safe from any thread.
#pragma once

#include <cstddef>
#include <vector>

#include "distance_tiles.hpp"

namespace vecdb {

using Kernel = float (*)(const float* a, const float* b, std::size_t dim) noexcept;

struct Kernels {
  const char* name;
  Kernel l2_squared;  // sum of (a - b)^2
  Kernel dot;         // sum of a * b
  TileKernels tiles;
};

// The kernels in use.
const Kernels& kernels();

// Every set that this CPU can run, plain C++ first, the one in use last.
std::vector<Kernels> available_kernels();

// |a|, summed in double, so that no finite vector overflows.
double norm(const float* a, std::size_t dim) noexcept;
// 1 / |a| within f32; 0 for a zero vector.
float inverse_norm(const float* a, std::size_t dim) noexcept;
// The cosine of two vectors, summed in double; 0 where one is zero. For vectors whose f32 sums leave the range of f32.
float cosine_in_double(const float* a, const float* b, std::size_t dim) noexcept;

}  // namespace vecdb
