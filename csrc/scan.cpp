// The exact way: every allowed row once, in order, so that the CPU's own prefetching sees a stream; and the Ranking.

#include <algorithm>
#include <cmath>
#include <limits>

#include "search.hpp"

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

void scan_range(const Vectors& vectors, const Query& query, Row first, Row last, const RowSet& allowed, Ranking& ranking) {
  last = std::min(last, allowed.limit);
  if (allowed.bits == nullptr) {
    for (Row row = first; row < last; ++row) ranking.offer(vectors.distance(query, row), row);
    return;
  }
  while (first < last) {
    const Row word_start = first & ~Row{63};
    std::uint64_t word = allowed.bits[first >> 6] >> (first & 63) << (first & 63);
    const Row span = std::min<Row>(last - word_start, 64);
    if (span < 64) word &= (std::uint64_t{1} << span) - 1;
    for (; word != 0; word &= word - 1) {
      const Row row = word_start + static_cast<Row>(__builtin_ctzll(word));
      ranking.offer(vectors.distance(query, row), row);
    }
    first = word_start + span;
  }
}

void scan_list(const Vectors& vectors, const Query& query, const Row* rows, std::size_t count, Ranking& ranking) {
  for (std::size_t i = 0; i < count; ++i) ranking.offer(vectors.distance(query, rows[i]), rows[i]);
}

}  // namespace vecdb
