// The exact way: every allowed row once, in order, so that the CPU's own prefetching sees a stream; and the Ranking.

#include <algorithm>
#include <cmath>
#include <limits>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "bitset.hpp"
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

namespace {

constexpr Row kWord = 64;                // rows of a word of a RowSet
constexpr std::size_t kGathered = 2048;  // rows of sparse words are collected, then asked for ahead of their turn
// Rows of a list are scored in chunks of about this much memory, and asked for two chunks ahead.
constexpr std::size_t kChunkBytes = 8192;
constexpr std::size_t kLargestChunk = 32;

constexpr std::size_t chunk_rows(std::uint64_t row_bytes) {
  const std::size_t rows = static_cast<std::size_t>(kChunkBytes / row_bytes) / kBlockRows * kBlockRows;
  return std::clamp(rows, kBlockRows, kLargestChunk);
}

// Bit r: whether row r of a word has a distance that is not beyond its query's limit.
template <std::size_t width>
std::uint64_t within(const float* distances, std::size_t rows, const float* limits) {
  std::uint64_t found = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    int is_within = 0;
    for (std::size_t q = 0; q < width; ++q) is_within |= static_cast<int>(distances[r * width + q] <= limits[q]);
    found |= static_cast<std::uint64_t>(is_within) << r;
  }
  return found;
}

#if defined(__SSE2__)
template <>
std::uint64_t within<1>(const float* distances, std::size_t rows, const float* limits) {
  const __m128 limit = _mm_set1_ps(*limits);
  std::uint64_t found = 0;
  std::size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const int four = _mm_movemask_ps(_mm_cmple_ps(_mm_loadu_ps(distances + r), limit));
    found |= static_cast<std::uint64_t>(static_cast<unsigned>(four)) << r;
  }
  for (; r < rows; ++r) found |= static_cast<std::uint64_t>(distances[r] <= *limits) << r;
  return found;
}

template <>
std::uint64_t within<8>(const float* distances, std::size_t rows, const float* limits) {
  const __m128 low = _mm_loadu_ps(limits);
  const __m128 high = _mm_loadu_ps(limits + 4);
  std::uint64_t found = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const float* of_row = distances + r * 8;
    const __m128 is_within = _mm_or_ps(_mm_cmple_ps(_mm_loadu_ps(of_row), low), _mm_cmple_ps(_mm_loadu_ps(of_row + 4), high));
    found |= static_cast<std::uint64_t>(_mm_movemask_ps(is_within) != 0) << r;
  }
  return found;
}
static_assert(kTileQueries == 8, "the kernel above is for eight queries");
#endif

// What a scan compares rows with: kWidth queries at once. begin is called before the first of some ranges; range and list return which of
// up to kWord rows may have a distance that is not beyond its query's limit, and write out[i * kWidth + q] of these. A word with kDense
// rows allowed is streamed whole, which the CPU does by itself and quicker a row.
struct OneQuery {
  static constexpr std::size_t kWidth = 1;
  static constexpr std::size_t kDense = 28;
  const Vectors& vectors;
  const Query& query;

  std::size_t count() const { return 1; }
  std::uint64_t row_bytes() const { return vectors.dim() * sizeof(float); }
  void prefetch(Row row) const { vectors.prefetch_early(row); }
  void begin(Row first) const { vectors.begin_reading(first); }
  std::uint64_t range(Row first, Row last, const float* limits, float* out) const {
    vectors.read_ahead(first, last);
    for (Row row = first; row < last; ++row) out[row - first] = vectors.distance(query, row);
    return within<kWidth>(out, last - first, limits);
  }
  std::uint64_t list(const Row* rows, std::size_t count, const float* limits, float* out) const {
    for (std::size_t i = 0; i < count; ++i) out[i] = vectors.distance(query, rows[i]);
    return within<kWidth>(out, count, limits);
  }
};

struct SomeQueries {
  static constexpr std::size_t kWidth = kTileQueries;
  static constexpr std::size_t kDense = 44;
  const Vectors& vectors;
  const QueryTile& tile;

  std::size_t count() const { return tile.count(); }
  std::uint64_t row_bytes() const { return vectors.dim() * sizeof(float); }
  void prefetch(Row row) const { vectors.prefetch_early(row); }
  void begin(Row first) const { vectors.begin_reading(first); }
  std::uint64_t range(Row first, Row last, const float* limits, float* out) const {
    vectors.read_ahead(first, last);
    // Beside so much arithmetic the CPU does not run far enough ahead by itself.
    vectors.range_distances(tile, first, last, static_cast<Row>(2 * chunk_rows(row_bytes())), out);
    return within<kWidth>(out, last - first, limits);
  }
  std::uint64_t list(const Row* rows, std::size_t count, const float* limits, float* out) const {
    vectors.list_distances(tile, rows, count, out);
    return within<kWidth>(out, count, limits);
  }
};

struct OneCoded {
  static constexpr std::size_t kWidth = 1;
  static constexpr std::size_t kDense = 28;
  const Vectors& vectors;
  const CodeQuery& query;

  std::size_t count() const { return 1; }
  std::uint64_t row_bytes() const { return vectors.codes()->bytes_per_row(); }
  void prefetch(Row row) const { vectors.codes()->prefetch_early(row); }
  void begin(Row) const {}
  std::uint64_t range(Row first, Row last, const float* limits, float* out) const {
    vectors.touch(first, last);
    vectors.codes()->range_distances(query, first, last, out);
    return within<kWidth>(out, last - first, limits);
  }
  std::uint64_t list(const Row* rows, std::size_t count, const float* limits, float* out) const {
    vectors.touch(rows, count);
    vectors.codes()->list_distances(query, rows, count, out);
    return within<kWidth>(out, count, limits);
  }
};

struct SomeCoded {
  static constexpr std::size_t kWidth = kTileQueries;
  static constexpr std::size_t kDense = 40;
  const Vectors& vectors;
  const CodeTile& tile;

  std::size_t count() const { return tile.count(); }
  std::uint64_t row_bytes() const { return vectors.codes()->bytes_per_row(); }
  void prefetch(Row row) const { vectors.codes()->prefetch_early(row); }
  void begin(Row) const {}
  std::uint64_t range(Row first, Row last, const float* limits, float* out) const {
    vectors.touch(first, last);
    return vectors.codes()->near_in_range(tile, first, last, limits, out);
  }
  std::uint64_t list(const Row* rows, std::size_t count, const float* limits, float* out) const {
    vectors.touch(rows, count);
    return vectors.codes()->near_in_list(tile, rows, count, limits, out);
  }
};

// One pass of one target over some rows. Most rows enter no ranking: a whole word of them is compared with the rankings' worst at once.
template <class Target>
class Scan {
 public:
  Scan(const Target& target, Ranking* rankings) : target_(target), rankings_(rankings) {
    std::fill(limits_, limits_ + kWidth, -std::numeric_limits<float>::infinity());
    update_limits();
  }

  void range(Row first, Row last, const RowSet& allowed) {
    last = std::min(last, allowed.limit);
    bool is_begun = false;
    for (first = skip_empty(first, last, allowed.bits); first < last; first = skip_empty(first, last, allowed.bits)) {
      const Row start = first & ~(kWord - 1);
      const Row end = last - start > kWord ? start + kWord : last;
      std::uint64_t word = (allowed.bits == nullptr ? ~std::uint64_t{0} : allowed.bits[start / kWord]) >> (first - start);
      if (end - first < kWord) word &= (std::uint64_t{1} << (end - first)) - 1;
      const auto count = static_cast<std::size_t>(bits::count_of(word));
      if (count >= Target::kDense) {
        if (!is_begun) target_.begin(first);
        is_begun = true;
        const auto row_at = [first](std::size_t i) { return first + static_cast<Row>(i); };
        offer(word & target_.range(first, end, limits_, distances_), distances_, row_at);
      } else {
        gather(word, count, first);
      }
      first = end;
    }
    list(gathered_, gathered_count_);
    gathered_count_ = 0;
  }

  void list(const Row* rows, std::size_t count) {
    const std::size_t chunk = chunk_rows(target_.row_bytes());
    const std::size_t ahead = 2 * chunk;
    for (std::size_t i = 0; i < std::min(count, ahead); ++i) target_.prefetch(rows[i]);
    for (std::size_t done = 0; done < count; done += chunk) {
      for (std::size_t i = done + ahead; i < std::min(count, done + ahead + chunk); ++i) target_.prefetch(rows[i]);
      const std::size_t now = std::min(chunk, count - done);
      const Row* of_chunk = rows + done;
      offer(target_.list(of_chunk, now, limits_, distances_), distances_, [of_chunk](std::size_t i) { return of_chunk[i]; });
    }
  }

 private:
  static constexpr std::size_t kWidth = Target::kWidth;
  static constexpr std::uint64_t kHighestBit = std::uint64_t{1} << 63;
  static constexpr std::size_t kUnconditional = 4;

  // Passes over words without rows, four at a time.
  static Row skip_empty(Row first, Row last, const std::uint64_t* bits) {
    if (bits == nullptr || first >= last) return first;
    const std::size_t words = bits::words_for(last);
    std::size_t word = first / kWord;
    while (word + 4 <= words && (bits[word] | bits[word + 1] | bits[word + 2] | bits[word + 3]) == 0) word += 4;
    return std::max(first, static_cast<Row>(std::min<std::size_t>(word * kWord, last)));
  }

  void gather(std::uint64_t word, std::size_t count, Row first) {
    Row* to = gathered_ + gathered_count_;
    const auto take = [&word, first] {
      // How many there are is hard to foresee for a CPU; the highest bit stands in where there are none.
      const Row row = first + static_cast<Row>(__builtin_ctzll(word | kHighestBit));
      word &= word - 1;
      return row;
    };
    for (std::size_t i = 0; i < kUnconditional; ++i) to[i] = take();
    for (std::size_t i = kUnconditional; i < count; ++i) to[i] = take();
    gathered_count_ += count;
    if (gathered_count_ + Target::kDense <= kGathered) return;
    list(gathered_, gathered_count_);
    gathered_count_ = 0;
  }

  template <class RowAt>
  void offer(std::uint64_t promising, const float* distances, const RowAt& row_at) {
    if (promising == 0) return;
    for (; promising != 0; promising &= promising - 1) {
      const auto i = static_cast<std::size_t>(__builtin_ctzll(promising));
      for (std::size_t q = 0; q < target_.count(); ++q) rankings_[q].offer(distances[i * kWidth + q], row_at(i));
    }
    update_limits();
  }

  void update_limits() {
    for (std::size_t q = 0; q < target_.count(); ++q) limits_[q] = rankings_[q].worst();
  }

  const Target target_;
  Ranking* const rankings_;
  float limits_[kWidth];  // of queries that the tile has not: below every distance
  std::size_t gathered_count_ = 0;
  Row gathered_[kGathered + kUnconditional];
  float distances_[kWord * kWidth];
};

template <class Target>
void scan_set(const Target& target, Row first, Row last, const RowSet& allowed, Ranking* rankings) {
  Scan<Target>(target, rankings).range(first, last, allowed);
}

template <class Target>
void scan_rows(const Target& target, const Row* rows, std::size_t count, Ranking* rankings) {
  Scan<Target>(target, rankings).list(rows, count);
}

}  // namespace

void scan_range(const Vectors& vectors, const Query& query, Row first, Row last, const RowSet& allowed, Ranking& ranking) {
  scan_set(OneQuery{vectors, query}, first, last, allowed, &ranking);
}
void scan_range(const Vectors& vectors, const CodeQuery& query, Row first, Row last, const RowSet& allowed, Ranking& ranking) {
  scan_set(OneCoded{vectors, query}, first, last, allowed, &ranking);
}
void scan_range(const Vectors& vectors, const QueryTile& tile, Row first, Row last, const RowSet& allowed, Ranking* rankings) {
  scan_set(SomeQueries{vectors, tile}, first, last, allowed, rankings);
}
void scan_range(const Vectors& vectors, const CodeTile& tile, Row first, Row last, const RowSet& allowed, Ranking* rankings) {
  scan_set(SomeCoded{vectors, tile}, first, last, allowed, rankings);
}

void scan_list(const Vectors& vectors, const Query& query, const Row* rows, std::size_t count, Ranking& ranking) {
  scan_rows(OneQuery{vectors, query}, rows, count, &ranking);
}
void scan_list(const Vectors& vectors, const CodeQuery& query, const Row* rows, std::size_t count, Ranking& ranking) {
  scan_rows(OneCoded{vectors, query}, rows, count, &ranking);
}
void scan_list(const Vectors& vectors, const QueryTile& tile, const Row* rows, std::size_t count, Ranking* rankings) {
  scan_rows(SomeQueries{vectors, tile}, rows, count, rankings);
}
void scan_list(const Vectors& vectors, const CodeTile& tile, const Row* rows, std::size_t count, Ranking* rankings) {
  scan_rows(SomeCoded{vectors, tile}, rows, count, rankings);
}

void offer_rows(const Vectors& vectors, const Query& query, const Row* rows, std::size_t count, Ranking& ranking) {
  constexpr std::size_t kRowsAhead = 16;  // of a few hundred, that all together would drive each other from the first-level cache
  for (std::size_t i = 0; i < std::min(count, kRowsAhead); ++i) vectors.prefetch_early(rows[i]);
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) vectors.prefetch_early(rows[i + kRowsAhead]);
    ranking.offer(vectors.distance(query, rows[i]), rows[i]);
  }
}

void rerank(const Vectors& vectors, const Query& query, Ranking& coded, Ranking& out) {
  std::vector<Row> rows;
  for (const Candidate& candidate : coded.take()) rows.push_back(candidate.row);
  offer_rows(vectors, query, rows.data(), rows.size(), out);
}

}  // namespace vecdb
