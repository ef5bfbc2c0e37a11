// The graph of a field as the bytes of a derived file, and back. docs/file_format.md, "Graph files", has the bytes.
//
// Invariant: what load returns has passed every check: checksums, identity, sizes, and each level, link and entry. Thread rule: save runs
// while nothing is inserted; otherwise pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "graph.hpp"
#include "profile.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// What a file must agree with to be of this field.
struct GraphIdentity {
  std::array<std::uint8_t, 16> uuid;
  std::uint64_t generation;
  std::uint32_t field;
  std::uint32_t dim;
  Metric metric;
  std::uint32_t m;
};

// The exact size of the file of rows [0, rows) of the graph.
std::uint64_t graph_file_size(const Graph& graph, Row rows);

// What a file says beside the graph.
struct GraphState {
  Row rows;  // covered
  GraphProfile profile;
  std::uint64_t lsn;
};

// Writes graph_file_size bytes; throws Error capacity when they do not fit.
void save_graph(const Graph& graph, const GraphIdentity& identity, const GraphState& state, std::uint8_t* buffer, std::uint64_t size);

struct LoadedGraph {
  std::unique_ptr<Graph> graph;
  GraphState state;
};

// What to save for the field after compaction: of the rows that state covers only those with a set bit in kept (64 rows a word; none from
// row_count on), numbered anew in their order.
using CompactedGraph = LoadedGraph;
CompactedGraph compacted_graph(const Graph& graph, const GraphState& state, const std::uint64_t* kept, Row row_count);

// Throws Error corruption for a file that is damaged, another field's, or covers more than max_rows rows.
LoadedGraph load_graph(const std::uint8_t* buffer, std::uint64_t size, const GraphIdentity& expected, const Vectors& vectors,
                       const GraphOptions& options, Row max_rows);

}  // namespace vecdb
