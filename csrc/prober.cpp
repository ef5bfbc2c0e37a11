// Each sample is left out of its own walk, as it is of its own truth.

#include "prober.hpp"

#include <time.h>

#include "traversal.hpp"

namespace vecdb {

namespace {

// The share of the first k of truth among the first k hits; hits that tie with the last of them count.
double share_found(const std::vector<Candidate>& truth, const std::vector<float>& distances, std::size_t k) {
  k = std::min(k, truth.size());
  if (k == 0) return 1;
  const float farthest = truth[k - 1].distance;
  const auto found = std::count_if(distances.begin(), distances.end(), [&](float distance) { return distance <= farthest; });
  return std::min(1.0, static_cast<double>(found) / static_cast<double>(k));
}

}  // namespace

double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

Outcome Prober::probe(const Reach& reach, std::uint32_t k, std::size_t count) {
  Outcome outcome;
  const double start = thread_ns();
  for (std::size_t i = 0; i < std::min(count, samples_.size()) && !is_stopped(); ++i) {
    const LeftOut& sample = samples_[i];
    const std::uint64_t distances = walk(sample, reach, k);
    outcome.few.add(share_found(sample.truth, rescored(sample, kFew), kFew));
    if (k == kMany) outcome.many.add(share_found(sample.truth, rescored(sample, kMany), kMany));
    outcome.distances.add(static_cast<double>(distances));
  }
  outcome.nanoseconds = thread_ns() - start;
  return outcome;
}

std::uint64_t Prober::walk(const LeftOut& sample, const Reach& reach, std::uint32_t k) {
  Walk walk;
  const float* const values = sample.query.values();
  const Beam beam = beam_of(reach, k, vectors_, values);
  const RowSet allowed{nullptr, rows_};
  if (vectors_.codes() == nullptr) {
    const QueryTarget target{vectors_, sample.query};
    walk_towards(graph_, LeftOutTarget<QueryTarget>{target, sample.row}, allowed, beam, kNoLimit, scratch_, walk);
  } else {
    const CodeQuery query(values, vectors_.dim(), vectors_.metric());
    const CodedTarget target{vectors_, query};
    walk_towards(graph_, LeftOutTarget<CodedTarget>{target, sample.row}, allowed, beam, kNoLimit, scratch_, walk);
  }
  return walk.distances;
}

// What a search for the best k would offer.
const std::vector<float>& Prober::rescored(const LeftOut& sample, std::uint32_t k) {
  distances_.clear();
  const std::size_t depth = vectors_.codes() == nullptr ? scratch_.hits.size() : rerank_depth(k);
  for (const Scored& hit : scratch_.hits) {
    if (distances_.size() == depth) break;
    const Row row = graph_.row_of(hit.node);
    if (row < rows_ && row != sample.row) distances_.push_back(vectors_.distance(sample.query, row));
  }
  return distances_;
}

}  // namespace vecdb
