// The exact way: every allowed row once, in order, so that the CPU's own prefetching sees a stream; and the Ranking.

#include <algorithm>
#include <cmath>
#include <limits>

#include "search.hpp"
#include "walk.hpp"

namespace vecdb {

Ranking::Ranking(std::uint32_t k, const Vectors& vectors, const TieBreak* ties)
    : k_(k), vectors_(vectors), ties_(ties), worst_(std::numeric_limits<float>::infinity()) {
  heap_.reserve(std::min<std::size_t>(k, 4096));
}

bool Ranking::is_better(const Entry& a, const Entry& b) const {
  if (a.key != b.key) return a.key < b.key;
  return ties_ != nullptr ? ties_->before(a.row, b.row) : a.row < b.row;
}

void Ranking::place(float kernel_distance, Row row) {
  if (k_ == 0) return;
  // Square roots of different numbers can be equal in f32, so the key is what the user will see.
  const float key = vectors_.metric() == Metric::l2 ? std::sqrt(kernel_distance) : kernel_distance;
  const Entry entry{key, kernel_distance, row};
  const auto by_rank = [this](const Entry& a, const Entry& b) { return is_better(a, b); };
  if (heap_.size() == k_) {
    if (!is_better(entry, heap_.front())) return;
    std::pop_heap(heap_.begin(), heap_.end(), by_rank);
    heap_.back() = entry;
  } else {
    heap_.push_back(entry);
  }
  std::push_heap(heap_.begin(), heap_.end(), by_rank);
  if (heap_.size() == k_) tighten();
}

// The largest kernel distance with the worst entry's key is not known exactly under l2; a bound above it will do, because
// place compares keys.
void Ranking::tighten() {
  const float key = heap_.front().key;
  constexpr float kTwoRoundings = 1.0F + 4.0F * std::numeric_limits<float>::epsilon();
  worst_ = vectors_.metric() == Metric::l2 ? std::max(key * key * kTwoRoundings, heap_.front().distance) : key;
}

std::vector<Candidate> Ranking::take() {
  std::sort(heap_.begin(), heap_.end(), [this](const Entry& a, const Entry& b) { return is_better(a, b); });
  std::vector<Candidate> best;
  best.reserve(heap_.size());
  for (const Entry& entry : heap_) best.push_back({entry.distance, entry.row});
  heap_.clear();
  worst_ = std::numeric_limits<float>::infinity();
  return best;
}

namespace {

constexpr std::size_t kGathered = 512;  // rows of sparse words are collected, then asked for ahead of their turn
constexpr std::size_t kAhead = 8;
// A word with this many of its 64 rows allowed is streamed whole: the CPU follows a sequence by itself.
constexpr int kDense = 16;

template <class Target>
void scan_rows(const Target& target, const Row* rows, std::size_t count, Ranking& ranking) {
  for (std::size_t i = 0; i < std::min(count, kAhead); ++i) target.prefetch(rows[i]);
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) target.prefetch(rows[i + kAhead]);
    ranking.offer(target.distance(rows[i]), rows[i]);
  }
}

template <class Target>
void scan_set(const Target& target, Row first, Row last, const RowSet& allowed, Ranking& ranking) {
  last = std::min(last, allowed.limit);
  if (allowed.bits == nullptr) {
    for (Row row = first; row < last; ++row) ranking.offer(target.distance(row), row);
    return;
  }
  Row gathered[kGathered];
  std::size_t count = 0;
  while (first < last) {
    const Row start = first & ~Row{63};
    std::uint64_t word = allowed.bits[first >> 6] >> (first & 63) << (first & 63);
    const Row span = std::min<Row>(last - start, 64);
    if (span < 64) word &= (std::uint64_t{1} << span) - 1;
    if (__builtin_popcountll(word) >= kDense) {
      for (Row row = first; row < start + span; ++row) {
        const float distance = target.distance(row);
        if ((word >> (row & 63) & 1) != 0) ranking.offer(distance, row);
      }
    } else {
      if (count + kDense > kGathered) {
        scan_rows(target, gathered, count, ranking);
        count = 0;
      }
      for (; word != 0; word &= word - 1) gathered[count++] = start + static_cast<Row>(__builtin_ctzll(word));
    }
    first = start + span;
  }
  scan_rows(target, gathered, count, ranking);
}

}  // namespace

void scan_range(const Vectors& vectors, const Query& query, Row first, Row last, const RowSet& allowed, Ranking& ranking) {
  scan_set(QueryTarget{vectors, query}, first, last, allowed, ranking);
}

void scan_range(const Vectors& vectors, const CodeQuery& query, Row first, Row last, const RowSet& allowed, Ranking& ranking) {
  scan_set(CodedTarget{vectors, query}, first, last, allowed, ranking);
}

void scan_list(const Vectors& vectors, const Query& query, const Row* rows, std::size_t count, Ranking& ranking) {
  scan_rows(QueryTarget{vectors, query}, rows, count, ranking);
}

void scan_list(const Vectors& vectors, const CodeQuery& query, const Row* rows, std::size_t count, Ranking& ranking) {
  scan_rows(CodedTarget{vectors, query}, rows, count, ranking);
}

void rerank(const Vectors& vectors, const Query& query, Ranking& coded, Ranking& out) {
  const std::vector<Candidate> best = coded.take();
  for (const Candidate& candidate : best) vectors.prefetch(candidate.row);
  for (const Candidate& candidate : best) out.offer(vectors.distance(query, candidate.row), candidate.row);
}

}  // namespace vecdb
