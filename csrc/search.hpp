// The two ways to find the nearest rows of a query: scan every allowed row, or walk a graph. Both offer what they find to
// one Ranking, and both get distances from Vectors, so that a row has the same score whichever way found it.
// Functions are re-entrant; a Ranking and a Scratch belong to one search at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "graph.hpp"
#include "scratch.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// The rows that may be hits: below limit, and with a set bit (64 rows a word, ascending). Without bits every row below limit. Of a walk
// only nodes below node_limit, since others are linked meanwhile.
struct RowSet {
  const std::uint64_t* bits;
  Row limit;
  Node node_limit = std::numeric_limits<Node>::max();

  bool contains(Row row) const { return row < limit && (bits == nullptr || (bits[row >> 6] >> (row & 63) & 1) != 0); }
};

// Which of two rows with equal scores comes first; asked for nothing else.
class TieBreak {
 public:
  virtual ~TieBreak() = default;
  virtual bool before(Row a, Row b) const = 0;
};

// The best k rows offered so far, in the order of their scores; equal scores in the order of ties, or, without it, of rows.
// A row may be offered once only.
class Ranking {
 public:
  // vectors says how distances become scores; ties may be nullptr. Both must outlive the ranking.
  Ranking(std::uint32_t k, const Vectors& vectors, const TieBreak* ties);

  std::size_t size() const { return heap_.size(); }
  std::uint32_t k() const { return k_; }
  // A kernel distance above this cannot enter any more.
  float worst() const { return worst_; }
  void offer(float kernel_distance, Row row) {
    if (kernel_distance > worst_) return;
    place(kernel_distance, row);
  }
  // The rows, best first, with their kernel distances; leaves the ranking empty.
  std::vector<Candidate> take();

 private:
  // key orders as scores do: smaller is better.
  struct Entry {
    float key;
    float distance;
    Row row;
  };

  bool is_better(const Entry& a, const Entry& b) const;
  void place(float kernel_distance, Row row);
  void tighten();

  std::uint32_t k_;
  const Vectors& vectors_;
  const TieBreak* ties_;
  float worst_;
  std::vector<Entry> heap_;  // worst entry at the front
};

// Comparing a tile with a row costs about as much as this many comparisons of one query; fewer queries are scanned for one by one.
constexpr std::size_t kWorthTile = 3;

// Offer every allowed row of [first, last).
void scan_range(const Vectors& vectors, const Query& query, Row first, Row last, const RowSet& allowed, Ranking& ranking);
void scan_range(const Vectors& vectors, const CodeQuery& query, Row first, Row last, const RowSet& allowed, Ranking& ranking);
// Offer these rows.
void scan_list(const Vectors& vectors, const Query& query, const Row* rows, std::size_t count, Ranking& ranking);
void scan_list(const Vectors& vectors, const CodeQuery& query, const Row* rows, std::size_t count, Ranking& ranking);
// The same for each query of a tile: rankings[q] is query q's, and all want the same rows.
void scan_range(const Vectors& vectors, const QueryTile& tile, Row first, Row last, const RowSet& allowed, Ranking* rankings);
void scan_range(const Vectors& vectors, const CodeTile& tile, Row first, Row last, const RowSet& allowed, Ranking* rankings);
void scan_list(const Vectors& vectors, const QueryTile& tile, const Row* rows, std::size_t count, Ranking* rankings);
void scan_list(const Vectors& vectors, const CodeTile& tile, const Row* rows, std::size_t count, Ranking* rankings);
// Offer a few rows from anywhere, by their rows and not by codes.
void offer_rows(const Vectors& vectors, const Query& query, const Row* rows, std::size_t count, Ranking& ranking);
// Offer to out, by their rows, what was best by codes; leaves coded empty.
void rerank(const Vectors& vectors, const Query& query, Ranking& coded, Ranking& out);

// How many of the best by codes are scored by their rows, so that codes decide next to nothing: twice k gave the true k nearest of every
// data set tried, vectors with a few components ten times the others included; 1.5 k gave 0.9993 of them.
constexpr std::uint32_t rerank_depth(std::uint32_t k) { return k > (UINT32_MAX - 8) / 2 ? UINT32_MAX : 2 * k + 8; }

// How far a walk looks: at most ef hits are kept, and, with a factor, nothing is looked at beyond factor times the distance of the kth best
// so far. Distances are meant squared; under cosine 1 - cos, under dot |query| * largest_norm - dot, which are proportional to such of unit
// vectors, and of rows that are lifted to one length (Bachrach et al., "Speeding up the Xbox recommender system", 2014).
// Where a share p of what is met is allowed, the kth best hit is about the (k / p)th best of all, for which less of a factor will do:
// 1 + (factor - 1) * p^thinning.
struct Reach {
  // Without a factor a walk is the plain beam of HNSW.
  Reach(std::uint32_t ef_) : ef(ef_) {}
  Reach(std::uint32_t ef_, float factor_, float largest_norm_, float thinning_ = 0)
      : ef(ef_), factor(factor_), largest_norm(largest_norm_), thinning(thinning_) {}

  static constexpr float kNoFactor = std::numeric_limits<float>::max();

  std::uint32_t ef;
  float factor = kNoFactor;
  float largest_norm = 0;  // of the rows; asked for under dot
  float thinning = 0;
  float least_share = 0;  // p is taken to be at least this: what lies far from the query is as hard to find as it is many
};

// With fewer hits wanted, the bound is still that of so many: of the very first few it would end a walk in the next best dead end.
constexpr std::uint32_t kLeastBounding = 10;

// Walk the graph towards the query and offer the nearest allowed rows that were met. Every node may be walked over, whether allowed or not.
// A walk is held to its effort, give or take one node's links.
Walk search_graph(const Graph& graph, const Vectors& vectors, const Query& query, const RowSet& allowed, const Reach& reach,
                  const Effort& effort, Scratch& scratch, Ranking& out);

}  // namespace vecdb
