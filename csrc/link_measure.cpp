// The least of a few breadths that gives both kinds of queries their recall.

#include "link_measure.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mixed.hpp"
#include "prober.hpp"
#include "search.hpp"

namespace vecdb {

namespace {

constexpr std::size_t kSamples = 96;  // of each kind
constexpr std::size_t kCandidates = 2 * kSamples;
constexpr std::size_t kTrusted = 384;  // their mean is taken to be as sure as that of so many, as the profile's is
constexpr float kLeastBreadth = 0.5F;
constexpr float kBreadthStep = 1.41421F;
constexpr int kBreadths = 7;  // up to 4 times as broad

template <class Choose>
std::vector<LeftOut> choose(const Vectors& vectors, std::size_t count, Choose&& row_at) {
  std::vector<LeftOut> samples;
  for (std::uint64_t i = 0; i < 4 * count && samples.size() < count; ++i) {
    const Row row = row_at(mixed(i));
    const bool is_new = std::none_of(samples.begin(), samples.end(), [&](const LeftOut& sample) { return sample.row == row; });
    if (is_new) samples.push_back({row, Query(vectors.row(row), vectors.dim(), vectors.metric()), {}});
  }
  return samples;
}

QueryTile tile_of(const std::vector<const Query*>& queries, std::uint32_t dim) { return QueryTile(queries.data(), queries.size(), dim); }
CodeTile tile_of(const std::vector<const CodeQuery*>& queries, std::uint32_t) { return CodeTile(queries.data(), queries.size()); }

// Of at most a tile of samples; the best depth of AnyQuery's distances are compared by their rows.
template <class AnyQuery>
void find_nearest(const Vectors& vectors, const std::vector<Row>& members, std::uint32_t depth, LeftOut* samples, std::size_t count) {
  std::vector<AnyQuery> queries;
  std::vector<const AnyQuery*> asked;
  std::vector<Ranking> rankings;
  queries.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    queries.emplace_back(samples[i].query.values(), vectors.dim(), vectors.metric());
    asked.push_back(&queries.back());
    rankings.emplace_back(depth, vectors, nullptr);
  }
  scan_list(vectors, tile_of(asked, vectors.dim()), members.data(), members.size(), rankings.data());
  for (std::size_t i = 0; i < count; ++i) {
    Ranking best(kFew, vectors, nullptr);
    for (const Candidate& near : rankings[i].take()) {
      if (near.row != samples[i].row) best.offer(vectors.distance(samples[i].query, near.row), near.row);
    }
    samples[i].truth = best.take();
  }
}

bool find_truth(const Vectors& vectors, const std::vector<Row>& members, std::vector<LeftOut>& samples, const std::atomic<bool>& stop) {
  for (std::size_t first = 0; first < samples.size(); first += kTileQueries) {
    if (stop.load(std::memory_order_relaxed)) return false;
    const std::size_t count = std::min(kTileQueries, samples.size() - first);
    if (vectors.codes() == nullptr) {
      find_nearest<Query>(vectors, members, kFew + 1, &samples[first], count);
    } else {
      find_nearest<CodeQuery>(vectors, members, rerank_depth(kFew + 1), &samples[first], count);
    }
  }
  return true;
}

}  // namespace

Reach broadened(const Reach& reach, float breadth) {
  Reach broad = reach;
  broad.ef =
      static_cast<std::uint32_t>(std::min<double>(std::ceil(static_cast<double>(reach.ef) * static_cast<double>(breadth)), UINT32_MAX));
  if (reach.factor != Reach::kNoFactor) broad.factor = 1 + (reach.factor - 1) * breadth;
  return broad;
}

std::optional<LinkBreadth> measure_links(const LinkedSet::View& set, const Vectors& vectors, Row rows, const GraphProfile& profile,
                                         const std::atomic<bool>& stop) {
  std::vector<Row> members(set.linked);
  for (Row position = 0; position < set.linked; ++position) members[position] = set.row_at(position);
  std::vector<LeftOut> own = choose(vectors, kSamples, [&](std::uint64_t chance) { return members[chance % members.size()]; });
  std::vector<LeftOut> others = choose(vectors, kCandidates, [&](std::uint64_t chance) { return static_cast<Row>(chance % rows); });
  if (!find_truth(vectors, members, own, stop) || !find_truth(vectors, members, others, stop)) return std::nullopt;
  const auto distance_of = [](const LeftOut& sample) { return sample.truth.empty() ? 0.0F : sample.truth.back().distance; };
  std::sort(others.begin(), others.end(), [&](const LeftOut& a, const LeftOut& b) { return distance_of(a) > distance_of(b); });
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(std::min(others.size(), kSamples)), others.end());

  const Prospect prospect = default_prospect(profile, kFew, set.linked);
  Prober near(*set.graph, vectors, UINT32_MAX, own, stop);
  Prober far(*set.graph, vectors, UINT32_MAX, others, stop);
  double distances = 0;
  const auto is_enough = [&](int step) {
    const Reach reach = broadened(prospect.reach, kLeastBreadth * std::pow(kBreadthStep, static_cast<float>(step)));
    const Outcome of_near = near.probe(reach, kFew, own.size());
    const Outcome of_far = far.probe(reach, kFew, others.size());
    distances = (of_near.distances.value() + of_far.distances.value()) / 2;
    return std::min(of_near.few.floor(kTrusted), of_far.few.value()) >= kRecall;
  };
  int low = -1;
  int high = kBreadths - 1;
  double of_high = 0;
  while (high - low > 1 && !stop.load(std::memory_order_relaxed)) {
    const int middle = (low + high) / 2;
    if (is_enough(middle)) {
      high = middle;
      of_high = distances;
    } else {
      low = middle;
    }
  }
  if (stop.load(std::memory_order_relaxed)) return std::nullopt;
  if (of_high == 0) {
    is_enough(high);
    of_high = distances;
  }
  return LinkBreadth{kLeastBreadth * std::pow(kBreadthStep, static_cast<float>(high)),
                     static_cast<float>(of_high / prospect.distances.distances)};
}

}  // namespace vecdb
