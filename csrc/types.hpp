// The words of the core as types. Offset space and row space are never mixed: an Offset numbers the points of a
// collection, a Row numbers the present vectors of one field in offset order, a Node numbers the places of one graph.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vecdb {

using Offset = std::uint32_t;
using Row = std::uint32_t;
using Node = std::uint32_t;
using Label = std::uint64_t;
using Tag = std::uint64_t;

// Values as in vecdb_metric.
enum class Metric : std::uint32_t { cosine = 0, dot = 1, l2 = 2 };

// A row and how far it is: smaller is nearer, whatever the metric.
struct Candidate {
  float distance;
  Row row;
};

// Queries that are compared with a row at once, while it is in the cache.
constexpr std::size_t kTileQueries = 8;

}  // namespace vecdb
