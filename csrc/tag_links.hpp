// For a union of tags a complete graph of its own over the rows that have any of them, kept apart from the base links.
//
// Invariant: once built, every row that has one of the tags is a member. A row that lost its tags stays one: searches let only rows
// through that match. Thread rule: insert in parallel with inserts of other rows and with searches of graph(); update runs alone.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "condition.hpp"
#include "graph.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

class TagLinks {
 public:
  // tags in any order; at least one. capacity is a hint: the graph grows.
  TagLinks(const Vectors& vectors, std::vector<Tag> tags, GraphOptions options, Node capacity);
  // A graph read from a file. Its nodes are [0, graph->count()).
  TagLinks(std::vector<Tag> tags, std::unique_ptr<Graph> graph);

  const std::vector<Tag>& tags() const { return tags_; }  // ascending, unique
  bool has(Tag tag) const;
  // Whether a row with any of these tags must be a member.
  bool covers(const std::vector<Tag>& tags) const;

  // Make row a member; a member stays one.
  void insert(Row row);
  // The row's vector was overwritten: mend its links, if it is a member. REQUIRES that no other call and no search runs.
  void update(Row row);

  // Never nullptr; growth replaces it, so that a search keeps what it took.
  std::shared_ptr<const Graph> graph() const;
  Node members() const { return graph()->count(); }

 private:
  struct Place {
    std::shared_ptr<Graph> graph;
    Node node;
  };

  Place place_of(Row row);
  void grow(Node needed);

  std::vector<Tag> tags_;
  mutable std::mutex nodes_mutex_;  // guards graph_ and nodes_
  std::shared_ptr<Graph> graph_;
  std::unordered_map<Row, Node> nodes_;
  std::shared_mutex growth_;  // shared by inserts, exclusive while the graph is copied
};

// Unions of tags of which every match of the program has at least one; none when the program promises no such thing.
std::vector<std::vector<Tag>> required_unions(const Program& program);

// The links with the fewest members among which every match of the program is; nullptr when there are none.
std::shared_ptr<const TagLinks> smallest_cover(const std::vector<std::shared_ptr<TagLinks>>& links, const Program& program);

}  // namespace vecdb
