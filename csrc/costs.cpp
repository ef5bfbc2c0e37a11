// The costs of a row on this machine, from a short run of the real scan over synthetic rows.

#include <time.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "plan.hpp"
#include "search.hpp"
#include "vectors.hpp"

namespace vecdb {

namespace {

// Two dims give the two unknowns of a RowCost. The rows of each fill this much: past the cache of a core, and little enough to be written
// within milliseconds.
constexpr std::uint32_t kNarrow = 32;
constexpr std::uint32_t kWide = 768;
constexpr std::size_t kBytes = std::size_t{4} << 20;
constexpr std::size_t kSampledRows = 2048;
constexpr int kRepeats = 4;

// Time that this thread ran: a busy machine must not change the costs.
double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

class Sample {
 public:
  explicit Sample(std::uint32_t dim) : vectors_(dim, Metric::l2), query_(std::vector<float>(dim, 0.5F).data(), dim, Metric::l2) {
    const auto rows = static_cast<Row>(kBytes / (dim * sizeof(float)));
    constexpr Row kAtOnce = 256;
    const std::vector<float> values(std::size_t{kAtOnce} * dim, 1.0F);
    while (vectors_.rows() < rows) vectors_.append(values.data(), std::min<Row>(kAtOnce, rows - vectors_.rows()));
    // Rows far from each other, in an order that no prefetcher knows: a full cycle of a linear congruential generator, skipping what is
    // beyond the end.
    std::uint32_t state = 1;
    while (scattered_.size() < kSampledRows) {
      state = state * 1664525U + 1013904223U;
      scattered_.push_back(static_cast<Row>((std::uint64_t{state} * rows) >> 32));
    }
    scan_all();  // touches every block, so that checks and page faults are not measured
  }

  double stream_ns() {
    return best_of([this] { scan_all(); }) / vectors_.rows();
  }
  double gather_ns() {
    return best_of([this] {
             Ranking ranking(1, vectors_, nullptr);
             scan_list(vectors_, query_, scattered_.data(), scattered_.size(), ranking);
           }) /
           static_cast<double>(scattered_.size());
  }

 private:
  void scan_all() {
    Ranking ranking(1, vectors_, nullptr);
    scan_range(vectors_, query_, 0, vectors_.rows(), {nullptr, vectors_.rows()}, ranking);
  }

  template <class Work>
  static double best_of(Work&& work) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kRepeats; ++i) {
      const double start = thread_ns();
      work();
      best = std::min(best, thread_ns() - start);
    }
    return best;
  }

  Vectors vectors_;
  const Query query_;
  std::vector<Row> scattered_;
};

RowCost fit(double narrow_ns, double wide_ns) {
  constexpr double kBytesBetween = (kWide - kNarrow) * sizeof(float);
  // A clock that jumped must not make a cost zero or negative.
  const double per_byte = std::max(1e-3, (wide_ns - narrow_ns) / kBytesBetween);
  return {std::max(0.5, narrow_ns - per_byte * kNarrow * sizeof(float)), per_byte};
}

Costs measure() {
  Sample narrow(kNarrow);
  Sample wide(kWide);
  return {fit(narrow.stream_ns(), wide.stream_ns()), fit(narrow.gather_ns(), wide.gather_ns())};
}

}  // namespace

const Costs& measured_costs() {
  static const Costs costs = measure();
  return costs;
}

}  // namespace vecdb
