// The working memory of an insertion or repair, reused so that a warm one allocates nothing.
// A Builder serves one insertion at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "graph.hpp"
#include "near_list.hpp"
#include "scratch.hpp"

namespace vecdb {

struct Graph::Neighbour {
  float distance;  // to the node whose neighbour it may become
  Node node;
  Row row;
  bool is_linked;  // it is one already

  bool operator<(const Neighbour& other) const { return distance < other.distance || (distance == other.distance && node < other.node); }
};

// The neighbours of one node that a walk met for the first time there.
struct Graph::Batch {
  std::vector<Node> nodes;
  std::vector<Row> rows;
  std::vector<float> distances;
  std::uint32_t count = 0;

  // Forget those whose distance is not below bound; rows mean nothing from then on. Without branches: which ones, no CPU foresees.
  void keep_nearer(float bound) {
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const float distance = distances[i];
      distances[kept] = distance;
      nodes[kept] = nodes[i];
      kept += distance < bound ? 1 : 0;
    }
    count = kept;
  }
};

struct Graph::Builder {
  Scratch scratch;  // of the descent, and what a walk visited
  NearList near;
  Batch batches[2];
  std::vector<std::vector<Neighbour>> found;  // by level: what the node is to be linked to
  std::vector<Neighbour> candidates;
  std::vector<Neighbour> kept;
  std::vector<Neighbour> refused;
  std::vector<Node> links;
  std::vector<Node> around;
  std::vector<Node> found_dead;

  // So that linking, which must not stop half way, allocates nothing.
  void make_room(std::size_t max_links) {
    links.resize(max_links);
    candidates.reserve(2 * max_links + 1);
    kept.reserve(2 * max_links + 1);
    refused.reserve(2 * max_links + 1);
  }
};

}  // namespace vecdb
