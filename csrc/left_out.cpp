// Truth by a scan in blocks that stay in the cache, eight codes of samples a row, and the rows themselves among the best.

#include "left_out.hpp"

#include <algorithm>
#include <limits>

#include "mixed.hpp"
#include "search.hpp"

namespace vecdb {

namespace {

constexpr std::size_t kScanBlockBytes = 128 * 1024;
constexpr Row kCodedRows = 64;  // as many as bits come back of

// Calls visit(first, last) for blocks of rows [0, rows). False when stop became true.
template <class Visit>
bool for_each_block(Row rows, Row block, const std::atomic<bool>& stop, Visit&& visit) {
  for (Row first = 0; first < rows;) {
    if (stop.load(std::memory_order_relaxed)) return false;
    const Row last = rows - first > block ? first + block : rows;
    visit(first, last);
    first = last;
  }
  return true;
}

bool scan_rows(const Graph& graph, const Vectors& vectors, Row rows, std::uint32_t depth, std::vector<LeftOut>& samples,
               const std::atomic<bool>& stop) {
  std::vector<Ranking> rankings;
  for (std::size_t i = 0; i < samples.size(); ++i) rankings.emplace_back(depth, vectors, nullptr);
  const auto block = static_cast<Row>(std::max<std::size_t>(64, kScanBlockBytes / (vectors.dim() * sizeof(float))));
  const bool is_done = for_each_block(rows, block, stop, [&](Row first, Row last) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      for (Row row = first; row < last; ++row) {
        const float distance = vectors.distance(samples[i].query, row);
        if (distance <= rankings[i].worst() && row != samples[i].row && graph.contains(row)) rankings[i].offer(distance, row);
      }
    }
  });
  for (std::size_t i = 0; is_done && i < samples.size(); ++i) samples[i].truth = rankings[i].take();
  return is_done;
}

bool scan_codes(const Graph& graph, const Vectors& vectors, Row rows, std::uint32_t depth, std::vector<LeftOut>& samples,
                const std::atomic<bool>& stop) {
  std::vector<CodeQuery> queries;
  std::vector<Ranking> rankings;
  for (const LeftOut& sample : samples) {
    queries.emplace_back(sample.query.values(), vectors.dim(), vectors.metric());
    rankings.emplace_back(rerank_depth(depth), vectors, nullptr);
  }
  std::vector<CodeTile> tiles;
  for (std::size_t i = 0; i < queries.size(); i += kTileQueries) {
    std::vector<const CodeQuery*> tile;
    for (std::size_t q = i; q < std::min(i + kTileQueries, queries.size()); ++q) tile.push_back(&queries[q]);
    tiles.emplace_back(tile.data(), tile.size());
  }
  const Codes& codes = *vectors.codes();
  std::vector<float> distances(kCodedRows * kTileQueries);
  const bool is_done = for_each_block(rows, kCodedRows, stop, [&](Row first, Row last) {
    for (std::size_t t = 0; t < tiles.size(); ++t) {
      float limits[kTileQueries];
      for (std::size_t q = 0; q < kTileQueries; ++q) {
        limits[q] = q < tiles[t].count() ? rankings[t * kTileQueries + q].worst() : -std::numeric_limits<float>::infinity();
      }
      std::uint64_t near = codes.near_in_range(tiles[t], first, last, limits, distances.data());
      for (; near != 0; near &= near - 1) {
        const auto i = static_cast<Row>(__builtin_ctzll(near));
        if (!graph.contains(first + i)) continue;
        for (std::size_t q = 0; q < tiles[t].count(); ++q) {
          const std::size_t sample = t * kTileQueries + q;
          if (first + i != samples[sample].row) rankings[sample].offer(distances[i * kTileQueries + q], first + i);
        }
      }
    }
  });
  for (std::size_t i = 0; is_done && i < samples.size(); ++i) {
    Ranking best(depth, vectors, nullptr);
    for (const Candidate& near : rankings[i].take()) best.offer(vectors.distance(samples[i].query, near.row), near.row);
    samples[i].truth = best.take();
  }
  return is_done;
}

}  // namespace

std::vector<LeftOut> choose_left_out(const Graph& graph, const Vectors& vectors, Row rows, std::size_t count) {
  std::vector<LeftOut> samples;
  // Rows that were dead when their turn came are not in the graph.
  for (std::uint64_t i = 0; i < 16 * count && samples.size() < count; ++i) {
    const auto row = static_cast<Row>(mixed(graph.options().seed + i) % rows);
    const bool is_new = std::none_of(samples.begin(), samples.end(), [&](const LeftOut& sample) { return sample.row == row; });
    if (is_new && graph.contains(row)) samples.push_back({row, Query(vectors.row(row), vectors.dim(), vectors.metric()), {}});
  }
  return samples;
}

bool find_truth(const Graph& graph, const Vectors& vectors, Row rows, std::uint32_t depth, std::vector<LeftOut>& samples,
                const std::atomic<bool>& stop) {
  if (vectors.codes() == nullptr) return scan_rows(graph, vectors, rows, depth, samples, stop);
  return scan_codes(graph, vectors, rows, depth, samples, stop);
}

}  // namespace vecdb
