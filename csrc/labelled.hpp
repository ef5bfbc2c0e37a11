// hnswlib's model of an index, with tags: labels, delete marks, a fixed number of places, searches by program and by list.
//
// Invariant: a point can be found from the moment its label is known. Thread rule: every call from any thread. Three locks, taken in
// this order: tags_mutex_ (one change of tags at a time), gate_ (shared by searches and insertions, exclusive while a vector or a graph is
// replaced), state_mutex_ (short). A point that is being added, updated or replaced is claimed by that one call; nobody waits for a claim
// while holding the gate.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "condition.hpp"
#include "fair_mutex.hpp"
#include "labelled_content.hpp"
#include "plan.hpp"
#include "scratch.hpp"
#include "search.hpp"
#include "types.hpp"

namespace vecdb {

enum class Places { fresh, deleted_first };

struct LabelledQuery {
  const Program& program;
  const float* queries = nullptr;
  std::uint64_t query_count = 0;
  std::uint32_t k = 0;
  std::uint32_t ef = 0;
  std::uint32_t threads = 1;
  Accuracy accuracy = Accuracy::approximate;
  const Label* allowed = nullptr;  // nullptr: every label
  std::uint64_t allowed_count = 0;
};

struct LabelledHits {
  Label* labels;     // query_count x k
  float* distances;  // squared l2, or 1 - dot
  std::uint32_t* counts;
};

struct LabelledStats {
  std::uint64_t count;
  std::uint64_t deleted;
  LabelledOptions options;
};

class LabelledIndex {
 public:
  explicit LabelledIndex(LabelledContent content);

  // Insert or update count rows, in order where the threads allow: places are given in the order of the rows.
  void add(const float* rows, const Label* labels, std::uint64_t count, std::uint32_t threads, Places places);
  void search(const LabelledQuery& query, const LabelledHits& hits) const;

  // Copy the vectors of labels that are not deleted to out, count x dim.
  void copy_rows(const Label* labels, std::uint64_t count, float* out) const;
  struct Entry {
    Label label;
    bool deleted;
  };
  // In insertion order.
  std::vector<Entry> entries() const;
  void mark_deleted(Label label);
  void unmark_deleted(Label label);
  void resize(std::uint64_t max_elements);
  LabelledStats stats() const;

  void add_tags(const Label* labels, std::uint64_t count, Tag tag);
  void remove_tags(const Label* labels, std::uint64_t count, Tag tag);
  std::vector<Tag> tags_of(Label label) const;
  void reset_tags();
  // m = 0 means the index's own.
  void link_tags(std::vector<Tag> tags, std::uint32_t m, std::uint32_t threads);

  // Call body(const LabelledContent&) while nothing changes and no insertion is under way.
  template <class Body>
  void read_all(Body&& body) const {
    const std::lock_guard<std::mutex> tags_lock(tags_mutex_);
    std::unique_lock<std::mutex> lock(state_mutex_);
    unclaimed_.wait(lock, [this] { return claimed_.empty(); });
    body(content_);
  }

 private:
  enum class Work { insert, update };
  // What one row of add is to do; the node is claimed.
  struct Task {
    Node node;
    Work work;
    Label label;
  };
  class Claim;
  class Matches;
  using StateLock = std::unique_lock<std::mutex>;

  Task reserve(const float* row, Label label, Places places);
  Node append(const float* row, Label label);
  void carry_out(const Task& task, const float* row);
  void insert_links(Node node);
  void make_room(Node node);
  void overwrite(const Task& task, const float* row);
  void withdraw(Node node);
  void release(Node node) noexcept;

  // REQUIRE state_mutex_, by lock where they may wait until no call has claimed the point. Throw Error not_found.
  bool is_live(Node node) const { return content_.live.value().contains(node); }
  Node node_of(Label label) const;
  Node unclaimed_node_of(Label label, StateLock& lock) const;
  std::vector<Node> unclaimed_nodes_of(const Label* labels, std::uint64_t count, StateLock& lock) const;
  std::vector<Node> nodes_with_any(const std::vector<Tag>& tags) const;

  // REQUIRES tags_mutex_, and different nodes.
  void make_members(const std::shared_ptr<TagLinks>& links, const std::vector<Node>& nodes, std::uint32_t threads);

  void write_hits(const std::vector<Candidate>& found, std::uint64_t number, std::uint32_t k, const LabelledHits& hits) const;

  mutable FairSharedMutex gate_;
  mutable std::mutex tags_mutex_;
  mutable std::mutex state_mutex_;
  mutable std::condition_variable unclaimed_;
  LabelledContent content_;
  std::shared_ptr<TagLinks> building_;  // not complete yet: not for searches, but kept in step with vectors
  std::unordered_map<Label, Node> nodes_;
  std::set<Node> deleted_;
  std::unordered_set<Node> claimed_;
  mutable ScratchPool scratches_;
};

}  // namespace vecdb
