// Stored rows as queries: each is left out of its own walk and of its own truth, so that it is to the graph what a new query is.
//
// Thread rule: pure functions; the graph may be inserted into meanwhile.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "graph.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

struct LeftOut {
  Row row;
  Query query;
  std::vector<Candidate> truth;  // the nearest others, ascending
};

// Different rows of [0, rows) that are in the graph, at most count of them; fewer of a graph that is almost empty.
std::vector<LeftOut> choose_left_out(const Graph& graph, const Vectors& vectors, Row rows, std::size_t count);

// Fill in the nearest depth of rows [0, rows). False when stop became true.
bool find_truth(const Graph& graph, const Vectors& vectors, Row rows, std::uint32_t depth, std::vector<LeftOut>& samples,
                const std::atomic<bool>& stop);

// What the target sees, but for one row.
template <class Target>
struct LeftOutTarget {
  const Target& target;
  Row self;
  float distance(Row row) const { return row == self ? std::numeric_limits<float>::infinity() : target.distance(row); }
  void prefetch(Row row) const { target.prefetch(row); }
};

}  // namespace vecdb
