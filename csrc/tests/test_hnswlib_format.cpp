// The main file of a labelled index, read by hnswlib 0.8.0 itself.

#include <hnswlib/hnswlib.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <set>
#include <vector>

#include "check.hpp"
#include "labelled.hpp"
#include "labelled_file.hpp"
#include "labelled_samples.hpp"
#include "samples.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 12;
constexpr std::size_t kCount = 600;
constexpr std::size_t kHits = 10;

std::set<Label> ours(const LabelledIndex& index, const float* query, std::uint32_t ef) {
  const Program everything(nullptr, 0, Operands::tags_only);
  LabelledQuery request{everything};
  request.queries = query;
  request.query_count = 1;
  request.k = kHits;
  request.ef = ef;
  std::vector<Label> labels(kHits);
  std::vector<float> distances(kHits);
  std::uint32_t count = 0;
  index.search(request, {labels.data(), distances.data(), &count});
  return {labels.begin(), labels.begin() + count};
}

std::set<Label> theirs(hnswlib::HierarchicalNSW<float>& index, const float* query, std::size_t ef) {
  index.setEf(ef);
  std::set<Label> labels;
  for (auto hits = index.searchKnn(query, kHits); !hits.empty(); hits.pop()) labels.insert(hits.top().second);
  return labels;
}

}  // namespace

TEST(hnswlib_reads_a_saved_index_and_finds_the_same_in_it) {
  std::mt19937_64 random = seeded("hnswlib reads", 91);
  std::vector<float> rows = clustered_rows(random, kCount, kDim, 15);
  LabelledOptions options;
  options.dim = kDim;
  options.metric = Metric::l2;
  options.m = 8;
  options.ef_construction = 60;
  options.max_elements = kCount;
  LabelledIndex index(make_content(options));
  std::vector<Label> labels(kCount);
  for (std::size_t i = 0; i < kCount; ++i) labels[i] = 1000 + i;
  index.add(rows.data(), labels.data(), kCount, 1, Places::fresh);
  // Vectors that move, and points that go.
  std::copy(rows.end() - 40 * kDim, rows.end(), rows.begin());
  for (std::size_t i = 0; i < 40 * kDim; ++i) rows[i] += 0.01F;
  index.add(rows.data(), labels.data(), 40, 1, Places::fresh);
  std::set<Label> deleted;
  for (std::size_t i = 100; i < 160; ++i) {
    index.mark_deleted(labels[i]);
    deleted.insert(labels[i]);
  }

  char path[] = "/tmp/vecdb-test-XXXXXX";
  const int fd = mkstemp(path);
  const std::vector<std::uint8_t> bytes = main_file(index);
  CHECK_EQUAL(static_cast<ssize_t>(bytes.size()), write(fd, bytes.data(), bytes.size()));
  close(fd);
  hnswlib::L2Space space(kDim);
  hnswlib::HierarchicalNSW<float> stock(&space, path);
  unlink(path);
  stock.checkIntegrity();
  CHECK_EQUAL(kCount, stock.getCurrentElementCount());
  CHECK_EQUAL(deleted.size(), stock.getDeletedCount());

  const std::vector<float> queries = clustered_rows(random, 40, kDim, 15);
  for (std::size_t q = 0; q < queries.size(); q += kDim) {
    const auto is_live = [&](Row row) { return deleted.count(labels[row]) == 0; };
    std::set<Label> truth;
    for (const Row row : plain_nearest(Metric::l2, &queries[q], rows.data(), kCount, kDim, kHits, is_live)) truth.insert(labels[row]);
    // A beam over all of the points finds every one that links lead to.
    CHECK(truth == ours(index, &queries[q], kCount));
    CHECK(truth == theirs(stock, &queries[q], kCount));
  }
}

}  // namespace vecdb::test
