// Distances of a block of rows, of 8-bit codes, to one query or to eight at once: sums across lanes and what follows them are done for
// the whole block, and a row comes from memory once for all queries. Every set of kernels gives the bits of CodeL2 and CodeDot.
// The best set that the CPU can run is chosen once, when first asked for. Safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "code_kernels.hpp"
#include "types.hpp"

namespace vecdb {

constexpr std::size_t kBlockRows = 8;

// Rows may repeat; each is read up to the next multiple of kCodeBlock.
struct CodeRows {
  const std::int8_t* codes[kBlockRows];
  float scales[kBlockRows];
  float squared_norms[kBlockRows];

  CodeMeasure measure(std::size_t row) const { return {scales[row], squared_norms[row]}; }
};

// A query's codes are followed by zeros up to a multiple of 64.
struct CodeQueryView {
  const std::int8_t* codes;
  std::int32_t sum;  // of the codes
  CodeMeasure measure;
};

// Eight queries, each followed by zeros up to stride, a multiple of 64; by query: the sum of its codes, and its measure. octets holds
// the same codes by eight dimensions at a time: 8 of the first query, 8 of the second, and so on.
struct CodeTileView {
  const std::int8_t* codes;
  const std::int8_t* octets;
  std::size_t stride;
  const std::int32_t* sums;
  const float* scales;
  const float* squared_norms;

  CodeMeasure measure(std::size_t query) const { return {scales[query], squared_norms[query]}; }
};

struct CodeBlocks {
  // dim is at most kMaxCodeRun. distances[r]: of row r.
  using Rows = void (*)(const CodeQueryView& query, const CodeRows& rows, std::size_t dim, float* distances) noexcept;
  // Returns which rows may be within a query's limit, bit r of row r: each that is, and next to none that is not. Of these
  // distances[r * kTileQueries + q] is of row r and query q; what stands in the places of others means nothing.
  using Tile = std::uint32_t (*)(const CodeTileView& queries, const CodeRows& rows, std::size_t dim, const float* limits,
                                 float* distances) noexcept;

  const char* name;
  Rows rows_l2;
  Rows rows_dot;  // dot and cosine
  Tile tile_l2;
  Tile tile_dot;
};

// The kernels in use.
const CodeBlocks& code_blocks();

// Every set that this CPU can run, the one for any CPU first, the one in use last.
std::vector<CodeBlocks> available_code_blocks();

}  // namespace vecdb
