// Walks with ever wider plain beams until both recalls are reached, then with ever tighter bounds while they hold; scans and walks are
// timed on the way.

#include "calibration.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bitset.hpp"
#include "left_out.hpp"
#include "mixed.hpp"
#include "prober.hpp"
#include "search.hpp"

namespace vecdb {

namespace {

constexpr std::size_t kSamples = 384;
constexpr std::size_t kSamplesOfMany = 128;  // their recalls vary less
constexpr std::size_t kRoughSamples = 96;    // to find out about where to look

// Queries need not come from where the rows do: on clustered data with a third of them from elsewhere .95 of rows was .944 of queries.
constexpr double kGoal = kRecall + 0.01;
constexpr double kBeamStep = 1.4142;
// Bounds that are tried: 1 + kLeastExcess * kExcessStep^i.
constexpr double kLeastExcess = 0.002;
constexpr double kExcessStep = 1.25;
constexpr int kBounds = 28;
// A bound is given up when it needs so many times the distances of the plain beam, which is known roughly.
constexpr double kNotWorthHaving = 1.1;

// The timed scans look at this many rows at most, one in sixteen of them in the scan over few.
constexpr Row kTimedRows = 1 << 20;
constexpr std::uint64_t kFewShare = 16;
constexpr std::size_t kTimedRuns = 4;
constexpr std::size_t kTimedSets = 3;

// One number that a clock without resolution must not make zero.
float per_one(double nanoseconds, double count) { return static_cast<float>(std::max(0.5, nanoseconds / std::max(1.0, count))); }

// The least of several runs: what else the machine does must not count. Those over few rows take turns over sets of rows, as searches do
// whose filters come again, and have no scan over all between them, which would drive their rows from the caches. scan(set, rankings) scans
// rows [0, rows) for so many queries.
template <class Scan>
void time_scans(const Vectors& vectors, Row rows, std::size_t queries, const Scan& scan, float& stream_ns, float& gather_ns) {
  const auto timed = [&](const RowSet& set, double count) {
    std::vector<Ranking> rankings(queries, Ranking(kFew, vectors, nullptr));
    const double start = thread_ns();
    scan(set, rankings.data());
    return per_one(thread_ns() - start, count * static_cast<double>(queries));
  };
  std::vector<Bitset> few(kTimedSets, Bitset(rows));
  for (Row row = 0; row < rows; ++row) {
    for (std::size_t set = 0; set < kTimedSets; ++set) {
      if (mixed(row + (std::uint64_t{set} << 32)) % kFewShare == 0) few[set].set(row);
    }
  }
  stream_ns = gather_ns = std::numeric_limits<float>::max();
  for (std::size_t run = 0; run < kTimedRuns; ++run) {
    for (const Bitset& set : few) gather_ns = std::min(gather_ns, timed({set.words(), rows}, static_cast<double>(set.count())));
  }
  for (std::size_t run = 0; run < kTimedRuns; ++run) stream_ns = std::min(stream_ns, timed({nullptr, rows}, rows));
}

// For one query and for eight at once, by codes where there are codes.
template <class AnyQuery, class Tile>
void time_scans(const Vectors& vectors, Row rows, const AnyQuery& query, const Tile& tile, GraphProfile& profile) {
  rows = std::min(rows, kTimedRows);
  const auto for_one = [&](const RowSet& set, Ranking* ranking) { scan_range(vectors, query, 0, rows, set, *ranking); };
  const auto for_tile = [&](const RowSet& set, Ranking* rankings) { scan_range(vectors, tile, 0, rows, set, rankings); };
  time_scans(vectors, rows, 1, for_one, profile.stream_ns, profile.gather_ns);
  time_scans(vectors, rows, tile.count(), for_tile, profile.tile_stream_ns, profile.tile_gather_ns);
}

void time_scans(const Vectors& vectors, Row rows, const std::vector<LeftOut>& samples, GraphProfile& profile) {
  const Query* of_tile[kTileQueries];
  std::vector<CodeQuery> coded;
  for (std::size_t q = 0; q < kTileQueries; ++q) {
    of_tile[q] = &samples[q % samples.size()].query;
    coded.emplace_back(of_tile[q]->values(), vectors.dim(), vectors.metric());
  }
  const CodeQuery* of_coded_tile[kTileQueries];
  for (std::size_t q = 0; q < kTileQueries; ++q) of_coded_tile[q] = &coded[q];
  if (vectors.codes() == nullptr) {
    time_scans(vectors, rows, *of_tile[0], QueryTile(of_tile, kTileQueries, vectors.dim()), profile);
  } else {
    time_scans(vectors, rows, coded[0], CodeTile(of_coded_tile, kTileQueries), profile);
  }
}

float largest_norm(const Vectors& vectors, Row rows) {
  double most = 0;
  for (Row row = 0; row < rows; ++row) {
    const float* const values = vectors.row(row);
    double squares = 0;
    for (std::uint32_t i = 0; i < vectors.dim(); ++i) squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    most = std::max(most, squares);
  }
  return static_cast<float>(std::min(std::sqrt(most), static_cast<double>(std::numeric_limits<float>::max())));
}

// A setting at which recall reaches its goal, and the distances that it takes.
struct Crossing {
  double setting;
  double distances;
};

// Between a setting that falls short and one that does not, on logarithmic scales.
Crossing crossing(double low, double low_recall, double low_distances, double high, double high_recall, double high_distances) {
  const double share = high_recall > low_recall ? std::clamp((kGoal - low_recall) / (high_recall - low_recall), 0.0, 1.0) : 1.0;
  return {low * std::pow(high / low, share), low_distances * std::pow(high_distances / low_distances, share)};
}

// The plain beam that the goal needs; roughly, but with the errors of as many samples as the bound is found with.
Crossing find_beam(Prober& prober, Node nodes, std::uint32_t k, std::uint32_t first, std::size_t samples) {
  Crossing before{0, 0};
  double recall_before = 0;
  for (double ef = first; !prober.is_stopped(); ef *= kBeamStep) {
    const Outcome outcome = prober.probe(Reach(static_cast<std::uint32_t>(ef)), k, kRoughSamples);
    const double recall = (k == kFew ? outcome.few : outcome.many).floor(samples);
    const Crossing now{ef, outcome.distances.value()};
    // A walk that looks at most nodes is no better than a scan: the need is out of reach, and this beam says so to the planner. So is one
    // that keeps whatever it meets: what it misses, no path leads to.
    if (recall >= kGoal || now.distances * 2 > nodes || ef >= nodes) {
      return before.setting == 0 ? now : crossing(before.setting, recall_before, before.distances, ef, recall, now.distances);
    }
    before = now;
    recall_before = recall;
  }
  return before;
}

double excess(int bound) { return kLeastExcess * std::pow(kExcessStep, bound); }

struct Bound {
  float factor = Reach::kNoFactor;
  double distances = 0;
  double nanoseconds_a_distance = std::numeric_limits<double>::max();
};

// The tightest bound with which a beam of `ef` reaches the goal.
Bound find_bound(Prober& prober, std::uint32_t ef, std::uint32_t k, std::size_t samples, float largest_norm) {
  struct Tried {
    double recall;
    double distances;
  };
  Bound found;
  const auto attempt = [&](int bound, std::size_t count) {
    const Reach reach(ef, static_cast<float>(1 + excess(bound)), largest_norm);
    const Outcome outcome = prober.probe(reach, k, count);
    const double distances = outcome.distances.value();
    const double all_distances = distances * static_cast<double>(std::min(count, prober.samples().size()));
    found.nanoseconds_a_distance = std::min(found.nanoseconds_a_distance, outcome.nanoseconds / all_distances);
    return Tried{(k == kFew ? outcome.few : outcome.many).floor(samples), distances};
  };
  int low = -1;
  int high = kBounds;
  while (high - low > 1 && !prober.is_stopped()) {
    const int middle = (low + high) / 2;
    (attempt(middle, kRoughSamples).recall >= kGoal ? high : low) = middle;
  }
  if (high == kBounds) return found;
  Tried tried = attempt(high, samples);
  const int step = tried.recall >= kGoal ? -1 : 1;
  for (int bound = high + step; bound >= 0 && bound < kBounds && !prober.is_stopped(); bound += step) {
    const Tried next = attempt(bound, samples);
    if ((next.recall >= kGoal) != (tried.recall >= kGoal)) {
      const bool is_rising = step > 0;
      const Tried& less = is_rising ? tried : next;
      const Tried& more = is_rising ? next : tried;
      const int under = is_rising ? bound - 1 : bound;
      const Crossing at = crossing(excess(under), less.recall, less.distances, excess(under + 1), more.recall, more.distances);
      found.factor = static_cast<float>(1 + at.setting);
      found.distances = at.distances;
      return found;
    }
    tried = next;
  }
  if (tried.recall >= kGoal) {
    found.factor = static_cast<float>(1 + excess(0));
    found.distances = tried.distances;
  }
  return found;
}

}  // namespace

std::optional<GraphProfile> measure_profile(const Graph& graph, const Vectors& vectors, Row rows, const std::atomic<bool>& stop) {
  std::vector<LeftOut> samples = choose_left_out(graph, vectors, rows, kSamples);
  if (samples.empty()) {  // nothing is in the graph, so nothing can be missed
    GraphProfile profile = nominal_profile(vectors.dim());
    profile.nodes = std::max<Node>(graph.count(), 1);
    return profile;
  }
  if (!find_truth(graph, vectors, rows, kMany, samples, stop)) return std::nullopt;

  GraphProfile profile;
  profile.nodes = graph.count();
  if (vectors.metric() == Metric::dot) profile.largest_norm = largest_norm(vectors, rows);
  time_scans(vectors, rows, samples, profile);
  Prober prober(graph, vectors, rows, samples, stop);
  // A search keeps at least as many as it scores by their rows.
  const auto least = [&](std::uint32_t k) { return vectors.codes() == nullptr ? k : rerank_depth(k); };
  const Crossing plain_few = find_beam(prober, profile.nodes, kFew, least(kFew), kSamples);
  profile.ef10 = static_cast<std::uint32_t>(std::ceil(plain_few.setting));
  const Crossing plain_many = find_beam(prober, profile.nodes, kMany, std::max(profile.ef10, least(kMany)), kSamplesOfMany);
  profile.ef100 = std::max(profile.ef10, static_cast<std::uint32_t>(std::ceil(plain_many.setting)));
  if (prober.is_stopped()) return std::nullopt;
  profile.distances10 = static_cast<float>(plain_few.distances);
  profile.distances100 = std::max(profile.distances10, static_cast<float>(plain_many.distances));

  const auto room = [](std::uint32_t ef) { return static_cast<std::uint32_t>(GraphProfile::kRoom * ef); };
  const Bound few = find_bound(prober, room(profile.ef10), kFew, kSamples, profile.largest_norm);
  const Bound many = find_bound(prober, room(profile.ef100), kMany, kSamplesOfMany, profile.largest_norm);
  if (prober.is_stopped()) return std::nullopt;
  const auto take = [](const Bound& bound, float plain_distances, float& factor, float& distances) {
    const bool is_worth_having =
        bound.factor != Reach::kNoFactor && bound.distances < kNotWorthHaving * static_cast<double>(plain_distances);
    factor = is_worth_having ? bound.factor : Reach::kNoFactor;
    distances = is_worth_having ? static_cast<float>(bound.distances) : plain_distances;
  };
  take(few, profile.distances10, profile.factor10, profile.bounded10);
  take(many, profile.distances100, profile.factor100, profile.bounded100);
  profile.bounded100 = std::max(profile.bounded100, profile.bounded10);
  profile.step_ns = static_cast<float>(std::max(0.5, few.nanoseconds_a_distance));
  return profile;
}

}  // namespace vecdb
