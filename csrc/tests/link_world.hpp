// An index small enough to be made in a test and wide enough to have a graph, and what tests of links ask of it.
#pragma once

#include <chrono>
#include <set>

#include "index_world.hpp"

namespace vecdb::test {

constexpr std::uint32_t kWide = 400;  // so wide that a graph is made from 3,000 rows on
constexpr Offset kRows = 4000;
constexpr vecdb_field kCheapGraph{kWide, VECDB_L2, 6, 24, 7, VECDB_NO_CODES};

// Queries beside stored rows.
inline std::vector<float> near(std::mt19937_64& random, const std::vector<float>& rows, std::size_t count) {
  std::vector<float> queries;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = random() % (rows.size() / kWide);
    for (std::size_t d = 0; d < kWide; ++d) {
      queries.push_back(rows[row * kWide + d] + 0.1F * static_cast<float>(static_cast<int>(random() % 5) - 2));
    }
  }
  return queries;
}

inline Ask asked_for(std::vector<std::uint64_t> program, std::uint32_t k = 10) {
  Ask ask;
  ask.k = k;
  ask.ef = 24;
  ask.program = std::move(program);
  return ask;
}

inline std::vector<float> row_at(const std::vector<float>& rows, Offset offset) {
  const auto start = rows.begin() + std::ptrdiff_t{offset} * kWide;
  return std::vector<float>(start, start + kWide);
}

// One query a call, then whatever the workers make of it.
inline void search_and_settle(Index& index, const std::vector<float>& queries, const Ask& ask) {
  search_each(index, queries, kWide, ask);
  CHECK(index.indexer().wait(std::chrono::seconds(300)));
}

inline Change change_of_one_field() {
  Change change;
  change.present.resize(1);
  return change;
}

inline std::uint32_t strategy(Index& index, const Ask& ask) {
  vecdb_search search{};
  search.k = ask.k;
  search.ef = ask.ef;
  search.program = ask.program.data();
  search.program_size = ask.program.size();
  return index.plan(search).strategy;
}

// The share of the true hits that are found; no hit comes twice.
inline double share_found(Index& index, const std::vector<float>& queries, Ask ask) {
  const Answer answer = search(index, queries, kWide, ask);
  ask.exact = true;
  const Answer truth = search(index, queries, kWide, ask);
  double found = 0, wanted = 0;
  for (std::size_t q = 0; q < truth.hits.size(); ++q) {
    CHECK_EQUAL(truth.hits[q].size(), answer.hits[q].size());
    const std::vector<Offset> expected = offsets_of(truth.hits[q]);
    std::set<Offset> once;
    for (const Hit& hit : answer.hits[q]) {
      CHECK(once.insert(hit.offset).second);
      found += std::count(expected.begin(), expected.end(), hit.offset) != 0 ? 1 : 0;
    }
    wanted += static_cast<double>(expected.size());
  }
  return found / wanted;
}

}  // namespace vecdb::test
