// What a labelled index holds and its files keep: vectors, base graph, labels, delete marks, tags and their links.
//
// Invariant: row, node of the base graph and place in `labels` are one number, below labels.size(). Of the points with one label at most
// one is live. Thread rule: none of its own; LabelledIndex guards it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bitset.hpp"
#include "copy_on_write.hpp"
#include "graph.hpp"
#include "tag_links.hpp"
#include "tags.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

enum class DeletedPlaces { kept, reused };

struct LabelledOptions {
  std::uint32_t dim = 0;
  Metric metric = Metric::l2;  // l2 or dot
  std::uint32_t m = 0;         // 0: no graph, every search is exact
  std::uint32_t ef_construction = 0;
  std::uint64_t seed = 0;
  std::uint64_t max_elements = 0;
  DeletedPlaces deleted_places = DeletedPlaces::kept;  // whether an insertion may take a deleted point's place
};

constexpr std::uint64_t kMostElements = UINT32_MAX - 1;

struct LabelledContent {
  LabelledOptions options;
  std::unique_ptr<Vectors> vectors;
  std::shared_ptr<Graph> graph;  // nullptr without links
  std::vector<Label> labels;
  CopyOnWrite<Bitset> live;  // of labels.size() bits
  Tags tags;
  TagLists tag_lists;
  std::vector<std::shared_ptr<TagLinks>> links;

  Node count() const { return static_cast<Node>(labels.size()); }
  GraphOptions graph_options(std::uint32_t m) const { return {m, options.ef_construction, options.seed}; }
};

// Throws Error invalid_argument naming the first of count rows that holds NaN or infinity. what is "row" or "query".
void check_finite(const float* rows, std::uint64_t count, std::uint32_t dim, const char* what);

// An empty content. Throws Error invalid_argument for options that no index can have.
LabelledContent make_content(const LabelledOptions& options);

}  // namespace vecdb
