// The moves through a graph: the greedy descent through the upper levels, and the best-first walk over one level, towards a Target, which
// gives `float distance(Row) const` and `void prefetch(Row) const`.
// A node's links are copied before they are looked at, so a walk may run while nodes are inserted.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "graph.hpp"
#include "scratch.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

struct QueryTarget {
  const Vectors& vectors;
  const Query& query;
  float distance(Row row) const { return vectors.distance(query, row); }
  void prefetch(Row row) const { vectors.prefetch(row); }
};

struct RowTarget {
  const Vectors& vectors;
  Row self;
  float distance(Row row) const { return vectors.link_distance(self, row); }
  void prefetch(Row row) const { vectors.prefetch_coded(row); }
};

// A query among rows that have codes.
struct CodedTarget {
  const Vectors& vectors;
  const CodeQuery& query;
  float distance(Row row) const { return vectors.coded_distance(query, row); }
  void prefetch(Row row) const { vectors.codes()->prefetch(row); }
};

// How far a walk looks: at most `ef` hits are kept, and nothing is looked at that is farther than `factor` times the kth best hit so far.
// What is multiplied is the squared distance between vectors, or a number proportional to it: kernel distance + shift. Where a share p of
// the nodes met are hits, the factor is 1 + (factor - 1) * p^thinning.
struct Beam {
  static constexpr std::size_t kNoBound = std::numeric_limits<std::size_t>::max();

  std::size_t ef;
  std::size_t kth = kNoBound;
  float factor = 1;
  float shift = 0;
  float thinning = 0;
  float least_share = 0;  // p is taken to be at least this
};

// The nearest node that a greedy descent from entry to just above level `to` reaches; the start of a walk on level `to`.
// REQUIRES a graph that is not empty.
template <class Target>
Scored descend(const Graph& graph, Graph::Entry entry, int to, const Target& target, Scratch& scratch, Walk& walk) {
  scratch.links.resize(std::max<std::size_t>(scratch.links.size(), graph.max_links(0)));
  Scored nearest{target.distance(graph.row_of(entry.node)), entry.node};
  ++walk.distances;
  for (int level = entry.level; level > to; --level) {
    for (bool moved = true; moved;) {
      moved = false;
      const std::uint32_t count = graph.copy_links(nearest.node, level, scratch.links.data());
      ++walk.hops;
      walk.distances += count;
      for (std::uint32_t i = 0; i < count; ++i) target.prefetch(graph.row_of(scratch.links[i]));
      for (std::uint32_t i = 0; i < count; ++i) {
        const float distance = target.distance(graph.row_of(scratch.links[i]));
        if (distance < nearest.distance) {
          nearest = {distance, scratch.links[i]};
          moved = true;
        }
      }
    }
  }
  return nearest;
}

// What is too far for a walk, given its hits so far.
class Horizon {
 public:
  explicit Horizon(const Beam& beam) : beam_(beam), factor_(beam.factor) {}

  bool is_within(float distance, const NearestNodes& hits) const { return distance < far_ || (distance == far_ && !hits.is_full()); }
  void draw_in(const NearestNodes& hits) {
    if (hits.size() >= beam_.kth) {
      const float near = std::max(0.0F, hits[beam_.kth - 1].distance + beam_.shift);
      far_ = near * factor_ - beam_.shift;
    }
    if (hits.is_full()) far_ = std::min(far_, hits.back().distance);
  }
  // This share of the nodes met are hits.
  void thin(double share) {
    share = std::max(share, static_cast<double>(beam_.least_share));
    factor_ = static_cast<float>(1.0 + (static_cast<double>(beam_.factor) - 1.0) * std::pow(share, static_cast<double>(beam_.thinning)));
  }

 private:
  const Beam& beam_;
  float factor_;
  float far_ = std::numeric_limits<float>::infinity();
};

// A walk on which every node is a hit: the hits that were not expanded are the frontier.
class OpenFront {
 public:
  OpenFront(const Beam& beam, Scratch& scratch) : horizon_(beam), hits_(scratch.hits) { hits_.reset(beam.ef); }

  // The node to expand next; nullptr at the end.
  const Scored* next() const {
    const Scored* const next = hits_.next();
    return next != nullptr && horizon_.is_within(next->distance, hits_) ? next : nullptr;
  }
  void expand() { hits_.expand(); }
  double share() const { return 1; }
  // True when it is the next one now.
  bool offer(Scored met, Row) {
    if (!horizon_.is_within(met.distance, hits_)) return false;
    const bool is_next = hits_.insert(met);
    horizon_.draw_in(hits_);
    return is_next;
  }

 private:
  Horizon horizon_;
  NearestNodes& hits_;
};

// A walk on which every node is walked over, and those that accept(node, row) takes are hits.
template <class Accept>
class SweepFront {
 public:
  SweepFront(const Beam& beam, const Accept& accept, Scratch& scratch)
      : horizon_(beam), accept_(accept), hits_(scratch.hits), frontier_(scratch.frontier) {
    hits_.reset(beam.ef);
    frontier_.clear();
  }

  const Scored* next() const {
    return !frontier_.empty() && horizon_.is_within(frontier_.front().distance, hits_) ? &frontier_.front() : nullptr;
  }
  void expand() {
    std::pop_heap(frontier_.begin(), frontier_.end(), NearestFirst());
    frontier_.pop_back();
  }
  // Of the nodes met that were not too far.
  double share() const { return (accepted_ + 0.5) / (met_ + 0.5); }
  bool offer(Scored met, Row row) {
    if (!horizon_.is_within(met.distance, hits_)) return false;
    frontier_.push_back(met);
    std::push_heap(frontier_.begin(), frontier_.end(), NearestFirst());
    met_ += 1;
    if (accept_(met.node, row)) {
      accepted_ += 1;
      if (met_ >= thinned_at_) {
        horizon_.thin(share());
        thinned_at_ = met_ + kThinEvery;
      }
      hits_.insert(met);
      horizon_.draw_in(hits_);
    }
    return frontier_.front().node == met.node;
  }

 private:
  static constexpr double kThinEvery = 32;

  double met_ = 0;
  double accepted_ = 0;
  double thinned_at_ = 2 * kThinEvery;
  Horizon horizon_;
  const Accept& accept_;
  NearestNodes& hits_;
  std::vector<Scored>& frontier_;
};

// The unvisited neighbours of a node.
class OneHop {
 public:
  OneHop(const Graph& graph, int level, Scratch& scratch) : graph_(graph), level_(level), scratch_(scratch) {
    scratch.links.resize(std::max<std::size_t>(scratch.links.size(), graph.max_links(0)));
    for (Batch& batch : scratch.batches) batch.reset(graph.max_links(0));
  }

  void gather(Node node, Batch& batch) {
    Node* const links = scratch_.links.data();
    const std::uint32_t count = graph_.copy_links(node, level_, links);
    std::size_t fresh = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      batch.nodes[fresh] = links[i];
      fresh += scratch_.visited.insert(links[i]) ? 1 : 0;
    }
    for (std::size_t i = 0; i < fresh; ++i) batch.rows[i] = graph_.row_of(batch.nodes[i]);
    batch.count = fresh;
  }

 private:
  const Graph& graph_;
  const int level_;
  Scratch& scratch_;
};

// Score a batch, and ask meanwhile for the vectors of the one that follows.
template <class Front, class Target>
void score(Batch& batch, const Batch& following, const Graph& graph, int level, const Target& target, Front& front) {
  std::size_t asked = 0;
  for (std::size_t i = 0; i < batch.count; ++i) {
    if (asked < following.count) target.prefetch(following.rows[asked++]);
    const Scored met{target.distance(batch.rows[i]), batch.nodes[i]};
    if (front.offer(met, batch.rows[i]) && level == 0) graph.prefetch_links(met.node);
  }
  for (; asked < following.count; ++asked) target.prefetch(following.rows[asked]);
  batch.count = 0;
}

// Holds a walk to its effort.
class Referee {
 public:
  enum class Verdict { go_on, end, give_up };

  explicit Referee(const Effort& effort) : effort_(effort), next_(std::min(effort.first_look, effort.give_up)) {}

  bool is_due(std::uint64_t distances) const { return distances >= next_; }
  // share: of the nodes met that are hits.
  Verdict judge(std::uint64_t distances, double share, std::size_t hits) {
    if (distances >= effort_.give_up && hits < effort_.enough) return Verdict::give_up;
    if (distances >= effort_.most) return Verdict::end;
    const bool may_turn_back = distances < effort_.give_up;
    if (may_turn_back && effort_.expectation.at(share) > effort_.worth + static_cast<double>(distances)) {
      return Verdict::give_up;
    }
    next_ = may_turn_back ? std::min(2 * distances, effort_.give_up) : effort_.most;
    return Verdict::go_on;
  }

 private:
  const Effort& effort_;
  std::uint64_t next_;
};

// Expands the nearest node again and again. A node is chosen before the neighbours of the one before it are scored, so that vectors
// and links arrive from memory while others are scored; choosing with one node's delay costs one distance in a hundred.
// REQUIRES that the front was offered where to start.
template <class Front, class Expansion, class Target>
void best_first(const Graph& graph, int level, const Target& target, const Effort& effort, Front& front, Expansion& expansion,
                Scratch& scratch, Walk& walk) {
  Referee referee(effort);
  Batch* coming = &scratch.batches[0];
  Batch* present = &scratch.batches[1];
  coming->count = present->count = 0;
  for (;;) {
    if (const Scored* const next = front.next()) {
      if (referee.is_due(walk.distances)) {
        const Referee::Verdict verdict = referee.judge(walk.distances, front.share(), scratch.hits.size());
        walk.exhausted = verdict == Referee::Verdict::give_up;
        if (verdict != Referee::Verdict::go_on) return;
      }
      const Node node = next->node;
      front.expand();
      expansion.gather(node, *coming);
      ++walk.hops;
      walk.distances += coming->count;
      const Scored* const following = front.next();
      if (following != nullptr && level == 0) graph.prefetch_links(following->node);
    } else if (present->count == 0) {
      return;
    }
    score(*present, *coming, graph, level, target, front);
    std::swap(present, coming);
  }
}

// SEARCH-LAYER of Malkov & Yashunin (Alg. 2), with a bound as well as a beam: leaves in scratch.hits the nearest nodes met.
template <class Target>
void search_nearest(const Graph& graph, int level, Scored start, const Target& target, const Beam& beam, const Effort& effort,
                    Scratch& scratch, Walk& walk) {
  scratch.visited.reset(graph.capacity());
  scratch.visited.insert(start.node);
  OpenFront front(beam, scratch);
  OneHop expansion(graph, level, scratch);
  front.offer(start, graph.row_of(start.node));
  best_first(graph, level, target, effort, front, expansion, scratch, walk);
}

// The same, where only those that accept(node, row) takes are hits. Every node is walked over, accepted or not.
template <class Target, class Accept>
void search_layer(const Graph& graph, int level, Scored start, const Target& target, const Accept& accept, const Beam& beam,
                  const Effort& effort, Scratch& scratch, Walk& walk) {
  scratch.visited.reset(graph.capacity());
  scratch.visited.insert(start.node);
  SweepFront<Accept> front(beam, accept, scratch);
  OneHop expansion(graph, level, scratch);
  front.offer(start, graph.row_of(start.node));
  best_first(graph, level, target, effort, front, expansion, scratch, walk);
}

}  // namespace vecdb
