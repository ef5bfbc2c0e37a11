// Truth by a blocked scan, then walks with ever wider beams until both recalls are reached; scans and walks are timed on the way.

#include "calibration.hpp"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bitset.hpp"
#include "search.hpp"
#include "walk.hpp"

namespace vecdb {

namespace {

constexpr std::size_t kSamples = 64;
constexpr std::uint32_t kFew = 10;
constexpr std::uint32_t kMany = 100;
constexpr double kRecall = 0.95;
constexpr double kFirstBeam = 12.0;
constexpr double kBeamStep = 1.4142;
constexpr std::size_t kScanBlockBytes = 128 * 1024;
// The timed scans look at this many rows at most, one in sixteen of them in the scan over few.
constexpr Row kTimedRows = 1 << 20;
constexpr std::uint64_t kFewShare = 16;

// A walk's distances grow with about this power of ef: 0.85 on glove100 and wordnet alike.
constexpr double kDistancesExponent = 0.85;

// The sampling error of 64 queries, and queries that lie farther out than the rows do.
constexpr double kMargin = 1.25;
// ef grows with this power of the rows: 0.36 on glove100 (12,000 to 200,000 rows), 0.49 on normal noise in 64 dimensions.
constexpr double kGrowth = 0.42;
// And with this power of k beyond 100, but it stays above k by a share.
constexpr double kGrowthWithK = 0.75;
constexpr double kOverK = 1.25;

// A stored row as a query to which it is itself invisible.
struct LeftOutTarget {
  const Vectors& vectors;
  Row self;
  float distance(Row row) const { return row == self ? std::numeric_limits<float>::infinity() : vectors.link_distance(self, row); }
  void prefetch(Row row) const { vectors.prefetch_coded(row); }
};

struct Sample {
  Row row;
  std::vector<Candidate> truth;  // the nearest kMany, ascending
};

std::uint64_t mixed(std::uint64_t value) {  // the finaliser of splitmix64
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

std::vector<Sample> choose_samples(const Graph& graph, Row rows) {
  std::vector<Sample> samples;
  // Rows that were dead when their turn came are not in the graph; of an almost empty one fewer samples are taken.
  for (std::uint64_t i = 0; i < 16 * kSamples && samples.size() < kSamples; ++i) {
    const auto row = static_cast<Row>(mixed(graph.options().seed + i) % rows);
    const bool is_new = std::none_of(samples.begin(), samples.end(), [&](const Sample& sample) { return sample.row == row; });
    if (is_new && graph.contains(row)) samples.push_back({row, {}});
  }
  return samples;
}

// False when stop became true.
bool find_truth(const Graph& graph, const Vectors& vectors, Row rows, std::vector<Sample>& samples, const std::atomic<bool>& stop) {
  std::vector<Ranking> rankings;
  for (std::size_t i = 0; i < samples.size(); ++i) rankings.emplace_back(kMany, vectors, nullptr);
  const auto block = static_cast<Row>(std::max<std::size_t>(64, kScanBlockBytes / (vectors.dim() * sizeof(float))));
  for (Row first = 0; first < rows;) {
    if (stop.load(std::memory_order_relaxed)) return false;
    const Row last = rows - first > block ? first + block : rows;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      for (Row row = first; row < last; ++row) {
        if (row != samples[i].row && graph.contains(row)) rankings[i].offer(vectors.distance(samples[i].row, row), row);
      }
    }
    first = last;
  }
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].truth = rankings[i].take();
  return true;
}

// Time that this thread ran: a busy machine must not change the costs.
double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// One number that a clock without resolution must not make zero.
float per_one(double nanoseconds, double count) { return static_cast<float>(std::max(0.5, nanoseconds / std::max(1.0, count))); }

void time_scans(const Vectors& vectors, Row rows, const Query& query, GraphProfile& profile) {
  rows = std::min(rows, kTimedRows);
  Bitset few(rows);
  for (Row row = 0; row < rows; ++row) {
    if (mixed(row) % kFewShare == 0) few.set(row);
  }
  const CodeQuery coded(query.values(), vectors.dim(), vectors.metric());
  const auto timed = [&](const RowSet& set) {
    Ranking ranking(kFew, vectors, nullptr);
    const double start = thread_ns();
    vectors.codes() == nullptr ? scan_range(vectors, query, 0, rows, set, ranking) : scan_range(vectors, coded, 0, rows, set, ranking);
    return thread_ns() - start;
  };
  profile.stream_ns = per_one(timed({nullptr, rows}), rows);
  profile.gather_ns = std::max(profile.stream_ns, per_one(timed({few.words(), rows}), static_cast<double>(few.count())));
}

struct Recall {
  double few = 0;
  double many = 0;
  double distances = 0;  // a walk
};

// The share of the first k of truth among the first k hits; hits that tie with the last of them count.
double share_found(const std::vector<Candidate>& truth, const std::vector<Scored>& hits, std::size_t k) {
  k = std::min(k, truth.size());
  if (k == 0) return 1;
  const float farthest = truth[k - 1].distance;
  const auto found = std::count_if(hits.begin(), hits.end(), [&](const Scored& hit) { return hit.distance <= farthest; });
  return std::min(1.0, static_cast<double>(found) / static_cast<double>(k));
}

// What a search for the best k makes of these hits.
std::vector<Scored> reranked(const Vectors& vectors, Row self, std::vector<Scored> hits, std::size_t k) {
  if (vectors.codes() == nullptr) return hits;
  keep_nearest(hits, rerank_depth(k));
  for (Scored& hit : hits) hit.distance = vectors.distance(self, hit.node);
  return hits;
}

Recall recall_at(const Graph& graph, const Vectors& vectors, Row rows, const std::vector<Sample>& samples, std::uint32_t ef,
                 Scratch& scratch) {
  Recall recall;
  for (const Sample& sample : samples) {
    const LeftOutTarget target{vectors, sample.row};
    Walk walk;
    const Scored start = descend(graph, graph.entry(), 0, target, scratch, walk);
    const auto accept = [&](Node, Row row) { return row < rows && row != sample.row; };
    search_layer(graph, 0, start, target, accept, Beam{ef}, scratch, walk);
    recall.few += share_found(sample.truth, reranked(vectors, sample.row, scratch.hits, kFew), kFew);
    recall.many += share_found(sample.truth, reranked(vectors, sample.row, scratch.hits, kMany), kMany);
    recall.distances += static_cast<double>(walk.distances);
  }
  const auto count = static_cast<double>(samples.size());
  return {recall.few / count, recall.many / count, recall.distances / count};
}

// Where recall passed its goal between two beams, on a logarithmic scale.
struct Crossing {
  std::uint32_t ef;
  float distances;
};

Crossing crossing(double low_ef, double low_recall, double ef, double recall, double distances) {
  const double share = recall > low_recall ? std::clamp((kRecall - low_recall) / (recall - low_recall), 0.0, 1.0) : 1.0;
  const double crossed = std::ceil(low_ef * std::pow(ef / low_ef, share));
  return {static_cast<std::uint32_t>(crossed), static_cast<float>(distances * std::pow(crossed / ef, kDistancesExponent))};
}

}  // namespace

bool is_plausible(const GraphProfile& profile) {
  const auto is_cost = [](float value) { return value >= 0.1F && value <= 1e9F; };
  return profile.ef10 >= 1 && profile.ef100 >= profile.ef10 && is_cost(profile.distances10) && is_cost(profile.distances100) &&
         profile.distances100 >= profile.distances10 && is_cost(profile.stream_ns) && is_cost(profile.gather_ns) &&
         is_cost(profile.step_ns);
}

GraphProfile nominal_profile(std::uint32_t dim) {
  // As measured for 100 and 384 dimensions of glove100 and wordnet.
  const float bytes = static_cast<float>(dim) * sizeof(float);
  return {1, 100, 250, 1700, 3700, 6 + 0.04F * bytes, 30 + 0.1F * bytes, 60 + 0.12F * bytes};
}

std::optional<GraphProfile> measure_profile(const Graph& graph, const Vectors& vectors, Row rows, const std::atomic<bool>& stop) {
  std::vector<Sample> samples = choose_samples(graph, rows);
  if (samples.empty()) {  // nothing is in the graph, so nothing can be missed
    GraphProfile profile = nominal_profile(vectors.dim());
    profile.rows = rows;
    return profile;
  }
  if (!find_truth(graph, vectors, rows, samples, stop)) return std::nullopt;

  GraphProfile profile;
  profile.rows = rows;
  time_scans(vectors, rows, Query(vectors.row(samples.front().row), vectors.dim(), vectors.metric()), profile);
  Scratch scratch;
  Recall before;
  double ef_before = 1;
  double walked_ns = 0;
  double walked_distances = 0;
  const auto settle = [&](std::uint32_t& ef, float& distances, const Crossing& found) {
    ef = found.ef;
    distances = found.distances;
  };
  for (double ef = kFirstBeam; profile.ef10 == 0 || profile.ef100 == 0; ef *= kBeamStep) {
    if (stop.load(std::memory_order_relaxed)) return std::nullopt;
    const double start = thread_ns();
    const Recall recall = recall_at(graph, vectors, rows, samples, static_cast<std::uint32_t>(ef), scratch);
    walked_ns += thread_ns() - start;
    walked_distances += recall.distances * static_cast<double>(samples.size());
    // A walk that looks at most rows is no better than a scan: the need is out of reach, and this beam says so to the planner.
    const bool is_last = recall.distances * 2 > rows;
    if (profile.ef10 == 0 && (recall.few >= kRecall || is_last)) {
      settle(profile.ef10, profile.distances10, crossing(ef_before, before.few, ef, recall.few, recall.distances));
    }
    if (profile.ef100 == 0 && (recall.many >= kRecall || is_last)) {
      settle(profile.ef100, profile.distances100, crossing(ef_before, before.many, ef, recall.many, recall.distances));
    }
    before = recall;
    ef_before = ef;
  }
  profile.ef100 = std::max(profile.ef100, profile.ef10);
  profile.distances100 = std::max(profile.distances100, profile.distances10);
  profile.step_ns = per_one(walked_ns, walked_distances);
  return profile;
}

std::uint32_t default_ef(const GraphProfile& profile, std::uint32_t k, Row rows) {
  const double position = std::log10(static_cast<double>(std::max(k, kFew)) / kFew);  // 0 at k = 10, 1 at k = 100
  const double ratio = static_cast<double>(profile.ef100) / profile.ef10;
  const double at_k =
      position <= 1 ? profile.ef10 * std::pow(ratio, position) : profile.ef100 * std::pow(static_cast<double>(k) / kMany, kGrowthWithK);
  const double growth = std::pow(std::max(1.0, static_cast<double>(rows) / profile.rows), kGrowth);
  return static_cast<std::uint32_t>(std::min<double>(std::max(at_k * growth * kMargin, kOverK * k), UINT32_MAX));
}

double walk_distances(const GraphProfile& profile, std::uint32_t ef) {
  const double span = static_cast<double>(profile.ef100) / profile.ef10;
  const double growth = static_cast<double>(profile.distances100) / profile.distances10;
  const double exponent = span > 1.5 ? std::log(growth) / std::log(span) : kDistancesExponent;
  return profile.distances10 * std::pow(static_cast<double>(ef) / profile.ef10, std::clamp(exponent, 0.5, 1.0));
}

}  // namespace vecdb
