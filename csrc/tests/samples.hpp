// Random vectors for tests, by a printed seed, and the plain computations that results are compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "types.hpp"

namespace vecdb::test {

inline std::mt19937_64 seeded(const char* what, std::uint64_t seed) {
  std::printf("        seed of %s: %llu\n", what, static_cast<unsigned long long>(seed));
  return std::mt19937_64(seed);
}

inline std::vector<float> normal_values(std::mt19937_64& random, std::size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// count rows around cluster_count centres, which are as far apart as unit normals are.
inline std::vector<float> clustered_rows(std::mt19937_64& random, std::size_t count, std::size_t dim, std::size_t cluster_count) {
  const std::vector<float> centres = normal_values(random, cluster_count * dim);
  std::vector<float> rows = normal_values(random, count * dim);
  for (std::size_t row = 0; row < count; ++row) {
    const std::size_t centre = random() % cluster_count;
    for (std::size_t i = 0; i < dim; ++i) rows[row * dim + i] = centres[centre * dim + i] + 0.4F * rows[row * dim + i];
  }
  return rows;
}

// The kernel distance, in double and in one lane.
inline double plain_distance(Metric metric, const float* a, const float* b, std::size_t dim) {
  double squared = 0, dot = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    squared += (x - y) * (x - y);
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  if (metric == Metric::l2) return squared;
  return metric == Metric::dot ? -dot : -dot / std::sqrt(aa * bb);
}

// The k nearest of rows [0, count) that allowed takes, nearest first, by plain_distance and then row.
inline std::vector<Row> plain_nearest(Metric metric, const float* query, const float* rows, std::size_t count, std::size_t dim,
                                      std::size_t k, const std::function<bool(Row)>& allowed) {
  std::vector<std::pair<double, Row>> all;
  for (Row row = 0; row < count; ++row) {
    if (allowed(row)) all.emplace_back(plain_distance(metric, query, rows + row * dim, dim), row);
  }
  k = std::min(k, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k), all.end());
  std::vector<Row> nearest;
  for (std::size_t i = 0; i < k; ++i) nearest.push_back(all[i].second);
  return nearest;
}

}  // namespace vecdb::test
