// Walks with stored rows as queries, compared with what they should have found: what recall a reach gives, and what it costs.
//
// Thread rule: a Prober serves one thread; the graph may be inserted into meanwhile.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph.hpp"
#include "left_out.hpp"
#include "scratch.hpp"
#include "search.hpp"
#include "types.hpp"
#include "vectors.hpp"

namespace vecdb {

// What is measured, and the goal.
constexpr std::uint32_t kFew = 10;
constexpr std::uint32_t kMany = 100;
constexpr double kRecall = 0.95;

// Time that this thread ran: a busy machine must not change the costs.
double thread_ns();

// A mean of many, and how far it is to be trusted.
class Mean {
 public:
  void add(double value) {
    sum_ += value;
    squares_ += value * value;
    ++count_;
  }
  double value() const { return sum_ / count_; }
  // What the mean of others of this kind is not below, but for bad luck, were it taken over so many.
  double floor(std::size_t count) const {
    const double variance = std::max(0.0, squares_ / count_ - value() * value());
    return value() - kErrors * std::sqrt(variance / static_cast<double>(count));
  }

 private:
  // By how many standard errors the mean recall of the samples must exceed the goal, so that other queries reach it too.
  static constexpr double kErrors = 2.5;

  double sum_ = 0;
  double squares_ = 0;
  double count_ = 0;
};

// What walks of one reach gave.
struct Outcome {
  Mean few;
  Mean many;
  Mean distances;
  double nanoseconds = 0;  // of all
};

class Prober {
 public:
  // All must outlive the prober. Only rows below `rows` count.
  Prober(const Graph& graph, const Vectors& vectors, Row rows, const std::vector<LeftOut>& samples, const std::atomic<bool>& stop)
      : graph_(graph), vectors_(vectors), rows_(rows), samples_(samples), stop_(stop) {}

  const std::vector<LeftOut>& samples() const { return samples_; }
  bool is_stopped() const { return stop_.load(std::memory_order_relaxed); }

  // Walks for the best k from the first count samples, as a search would do it.
  Outcome probe(const Reach& reach, std::uint32_t k, std::size_t count);

 private:
  std::uint64_t walk(const LeftOut& sample, const Reach& reach, std::uint32_t k);
  const std::vector<float>& rescored(const LeftOut& sample, std::uint32_t k);

  const Graph& graph_;
  const Vectors& vectors_;
  const Row rows_;
  const std::vector<LeftOut>& samples_;
  const std::atomic<bool>& stop_;
  Scratch scratch_;
  std::vector<float> distances_;
};

}  // namespace vecdb
