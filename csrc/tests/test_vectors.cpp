// Rows in memory and in a mapped file, their checksums, and the distances to them.

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>

#include "check.hpp"
#include "crc32c.hpp"
#include "samples.hpp"
#include "vecdb.h"
#include "vectors.hpp"

namespace vecdb::test {
namespace {

// A file without a name, gone when closed.
class TemporaryFile {
 public:
  TemporaryFile() {
    char path[] = "/tmp/vecdb-test-XXXXXX";
    fd_ = mkstemp(path);
    CHECK(fd_ >= 0);
    unlink(path);
  }
  ~TemporaryFile() { close(fd_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int fd() const { return fd_; }
  void write_at(std::size_t byte, const void* data, std::size_t size) const {
    CHECK_EQUAL(static_cast<ssize_t>(size), pwrite(fd_, data, size, static_cast<off_t>(byte)));
  }
  void resize(std::size_t bytes) const { CHECK_EQUAL(0, ftruncate(fd_, static_cast<off_t>(bytes))); }

 private:
  int fd_;
};

std::vector<std::uint32_t> block_checksums(const std::vector<float>& rows, std::uint32_t dim) {
  const std::size_t block = std::size_t{rows_per_block(dim)} * dim;
  std::vector<std::uint32_t> crcs;
  for (std::size_t start = 0; start + block <= rows.size(); start += block) {
    crcs.push_back(crc32c(0, rows.data() + start, block * sizeof(float)));
  }
  return crcs;
}

TEST(distances_agree_with_a_plain_computation_under_every_metric) {
  std::mt19937_64 random = seeded("distances", 21);
  for (const Metric metric : {Metric::cosine, Metric::dot, Metric::l2}) {
    for (const std::uint32_t dim : {1U, 7U, 100U}) {
      const std::vector<float> rows = normal_values(random, 50 * dim), values = normal_values(random, dim);
      Vectors vectors(dim, metric);
      vectors.append(rows.data(), 20);
      vectors.append(rows.data() + 20 * dim, 30);
      CHECK_EQUAL(50U, vectors.rows());
      const Query query(values.data(), dim, metric);
      for (Row row = 0; row < 50; ++row) {
        const double expected = plain_distance(metric, values.data(), rows.data() + row * dim, dim);
        CHECK(std::abs(expected - static_cast<double>(vectors.distance(query, row))) < 1e-4);
        const double between = plain_distance(metric, rows.data(), rows.data() + row * dim, dim);
        CHECK(std::abs(between - static_cast<double>(vectors.distance(0, row))) < 1e-4);
        CHECK_EQUAL(rows[row * dim], vectors.row(row)[0]);
        const double score = metric == Metric::l2 ? std::sqrt(expected) : -expected;
        CHECK(std::abs(score - static_cast<double>(vectors.score(vectors.distance(query, row)))) < 1e-3);
      }
    }
  }
}

TEST(an_overflowing_dot_product_is_infinitely_far_not_nan) {
  const float row[] = {3e38F, -3e38F, 0.0F, 0.0F, 3e38F, -3e38F, 0.0F, 0.0F};
  const float query_values[] = {3e38F, 3e38F, 0.0F, 0.0F, 3e38F, 3e38F, 0.0F, 0.0F};
  Vectors vectors(8, Metric::dot);
  vectors.append(row, 1);
  CHECK_EQUAL(std::numeric_limits<float>::infinity(), vectors.distance(Query(query_values, 8, Metric::dot), 0));
}

TEST(cosine_does_not_depend_on_the_scale_of_vectors) {
  std::mt19937_64 random = seeded("scale", 27);
  const std::vector<float> values = normal_values(random, 3 * 16);
  for (const float scale : {1e-30F, 1e-18F, 1.0F, 1e18F, 1e37F}) {
    std::vector<float> scaled = values;
    for (float& value : scaled) value *= scale;
    Vectors vectors(16, Metric::cosine);
    vectors.append(scaled.data(), 3);
    for (const std::vector<float>& query_values : {values, scaled}) {
      const Query query(query_values.data(), 16, Metric::cosine);
      for (Row row = 0; row < 3; ++row) {
        const double expected = plain_distance(Metric::cosine, values.data(), values.data() + row * 16, 16);
        CHECK(std::abs(expected - static_cast<double>(vectors.distance(query, row))) < 1e-5);
        CHECK(std::abs(expected - static_cast<double>(vectors.distance(0, row))) < 1e-5);
      }
    }
  }
}

TEST(appended_rows_never_move) {
  std::mt19937_64 random = seeded("append", 22);
  Vectors vectors(33, Metric::cosine);
  const std::vector<float> rows = normal_values(random, 33 * 5000);
  vectors.append(rows.data(), 1);
  const float* const first = vectors.row(0);
  for (Row row = 1; row < 5000;) {
    const Row count = std::min<Row>(5000 - row, row);
    vectors.append(rows.data() + row * 33, count);
    row += count;
  }
  CHECK_EQUAL(first, vectors.row(0));
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK(first[i] == rows[i]);
}

THREADED_TEST(rows_are_readable_as_soon_as_they_are_counted) {
  const std::uint32_t dim = 4;
  std::mt19937_64 random = seeded("counted", 28);
  const std::vector<float> row = normal_values(random, dim);
  Vectors vectors(dim, Metric::cosine);
  vectors.append(row.data(), 1);
  const Query query(row.data(), dim, Metric::cosine);
  std::atomic<bool> is_done{false};
  std::atomic<int> wrong{0};
  std::thread reader([&] {
    while (!is_done.load()) {
      if (std::abs(vectors.distance(query, vectors.rows() - 1) + 1.0F) > 1e-6F) ++wrong;
    }
  });
  for (int i = 0; i < 20000; ++i) vectors.append(row.data(), 1);
  is_done = true;
  reader.join();
  CHECK_EQUAL(0, wrong.load());
}

TEST(an_overwritten_row_has_the_new_distance) {
  std::mt19937_64 random = seeded("overwrite", 23);
  const std::vector<float> rows = normal_values(random, 3 * 8), values = normal_values(random, 8);
  Vectors vectors(8, Metric::cosine);
  vectors.append(rows.data(), 3);
  vectors.overwrite(1, values.data());
  const Query query(values.data(), 8, Metric::cosine);
  CHECK(std::abs(vectors.distance(query, 1) + 1.0F) < 1e-6F);
  CHECK_THROWS(Code::invalid_argument, vectors.overwrite(3, values.data()));
}

TEST(a_block_is_a_power_of_two_of_rows_near_64_kib) {
  CHECK_EQUAL(16384U, vecdb_rows_per_block(1));
  CHECK_EQUAL(128U, vecdb_rows_per_block(100));
  CHECK_EQUAL(128U, vecdb_rows_per_block(128));
  CHECK_EQUAL(32U, vecdb_rows_per_block(384));
  CHECK_EQUAL(1U, vecdb_rows_per_block(16384));
  CHECK_EQUAL(1U, vecdb_rows_per_block(100000));
}

TEST(a_mapped_file_grows_and_gives_the_scores_of_memory) {
  std::mt19937_64 random = seeded("map", 24);
  const std::uint32_t dim = 100;
  const std::vector<float> rows = normal_values(random, 1000 * dim), values = normal_values(random, dim);
  for (const Metric metric : {Metric::cosine, Metric::l2}) {
    const TemporaryFile file;
    file.resize(rows.size() * sizeof(float));
    Vectors memory(dim, metric), mapped(dim, metric);
    memory.append(rows.data(), 1000);
    const Query query(values.data(), dim, metric);
    Row before = 0;
    for (const Row total : {1U, 10U, 128U, 130U, 700U, 1000U}) {
      file.write_at(before * dim * sizeof(float), rows.data() + before * dim, (total - before) * dim * sizeof(float));
      mapped.map(file.fd(), total);
      CHECK_EQUAL(total, mapped.rows());
      for (Row row = before / 2; row < total; ++row) CHECK_EQUAL(memory.distance(query, row), mapped.distance(query, row));
      before = total;
    }
    mapped.verify_all();
  }
}

TEST(a_file_shorter_than_its_rows_is_corruption_not_a_crash) {
  const TemporaryFile file;
  file.resize(99);
  Vectors vectors(5, Metric::l2);
  CHECK_THROWS(Code::corruption, vectors.map(file.fd(), 5));
  vectors.map(file.fd(), 4);
  CHECK_THROWS(Code::corruption, vectors.map(file.fd(), 100000));
  CHECK_EQUAL(4U, vectors.rows());
  CHECK_THROWS(Code::invalid_argument, vectors.map(file.fd(), 3));
}

TEST(rows_of_memory_come_after_those_of_a_file_and_only_where_a_page_ends) {
  const TemporaryFile file;
  file.resize(4 * page_size());
  const float row[] = {1.0F, 2.0F};
  Vectors memory(2, Metric::l2), mapped(2, Metric::l2);
  memory.append(row, 1);
  mapped.map(file.fd(), 1);
  CHECK_THROWS(Code::invalid_argument, memory.map(file.fd(), 1));
  CHECK_THROWS(Code::invalid_argument, mapped.append(row, 1));
  CHECK_THROWS(Code::invalid_argument, mapped.overwrite(0, row));
  mapped.map(file.fd(), page_size() / sizeof row);
  mapped.append(row, 1);
  CHECK_EQUAL(2.0F, mapped.row(static_cast<Row>(page_size() / sizeof row))[1]);
  CHECK_THROWS(Code::invalid_argument, mapped.overwrite(0, row));
}

TEST(rows_behind_a_file_are_those_that_were_appended_whatever_is_written_there) {
  std::mt19937_64 random = seeded("behind", 27);
  const std::uint32_t dim = 96;  // 384 bytes: 32 rows end with a page of 4096 bytes
  const Row step = static_cast<Row>(page_size() / 128), total = 10 * step + 7;
  const std::vector<float> rows = normal_values(random, total * dim), values = normal_values(random, dim);
  const std::vector<float> noise(rows.size(), 7.0F);
  const std::vector<std::uint32_t> crcs = block_checksums(rows, dim);
  for (const Metric metric : {Metric::cosine, Metric::l2}) {
    const TemporaryFile file;
    file.write_at(0, noise.data(), noise.size() * sizeof(float));
    file.write_at(0, rows.data(), 2 * step * dim * sizeof(float));
    Vectors memory(dim, metric), mixed(dim, metric);
    memory.append(rows.data(), total);
    const Query query(values.data(), dim, metric);
    mixed.map(file.fd(), 2 * step);
    mixed.expect_checksums(crcs.data(), 2 * step / rows_per_block(dim));
    Row before = 2 * step;
    for (const Row end : {before + 1, 5 * step + 3, total}) {
      mixed.append(rows.data() + before * dim, end - before);
      CHECK_EQUAL(end, mixed.rows());
      for (Row row = before / 2; row < end; ++row) CHECK_EQUAL(memory.distance(query, row), mixed.distance(query, row));
      before = end;
    }
    mixed.verify_all();
    // The file has caught up: its pages take the place of memory, and nothing else changes.
    file.write_at(0, rows.data(), rows.size() * sizeof(float));
    for (const Row end : {Row{1}, 3 * step + 5, total}) {
      mixed.map(file.fd(), end);
      CHECK_EQUAL(total, mixed.rows());
      for (Row row = 0; row < total; ++row) CHECK_EQUAL(memory.distance(query, row), mixed.distance(query, row));
    }
    mixed.append(rows.data(), 3);
    CHECK_EQUAL(memory.distance(query, 0), mixed.distance(query, total));
  }
}

TEST(a_wrong_checksum_is_reported_at_the_first_touch_of_its_block_only) {
  std::mt19937_64 random = seeded("checksums", 25);
  const std::uint32_t dim = 100, block = rows_per_block(dim);
  std::vector<float> rows = normal_values(random, (4 * block + 5) * dim);
  for (const Metric metric : {Metric::cosine, Metric::dot}) {
    const TemporaryFile file;
    const std::vector<std::uint32_t> crcs = block_checksums(rows, dim);
    CHECK_EQUAL(std::size_t{4}, crcs.size());
    std::vector<float> damaged = rows;
    damaged[2 * block * dim + 77] += 1.0F;
    file.write_at(0, damaged.data(), damaged.size() * sizeof(float));

    Vectors vectors(dim, metric);
    vectors.map(file.fd(), 4 * block + 5);
    vectors.expect_checksums(crcs.data(), crcs.size());
    const Query query(rows.data(), dim, metric);
    for (const Row row : {Row{0}, 2 * block - 1, 3 * block, 4 * block + 4}) vectors.distance(query, row);
    for (int touch = 0; touch < 2; ++touch) {
      CHECK_THROWS(Code::corruption, vectors.distance(query, 2 * block));
      CHECK_THROWS(Code::corruption, vectors.row(3 * block - 1));
      CHECK_THROWS(Code::corruption, vectors.distance(0, 2 * block + 9));
    }
    CHECK(CHECK_THROWS(Code::corruption, vectors.verify_all()).find("rows 256 to 383") != std::string::npos);
    file.write_at(0, rows.data(), rows.size() * sizeof(float));
    vectors.distance(query, 2 * block);
    vectors.verify_all();
  }
}

TEST(more_checksums_than_whole_blocks_are_refused) {
  const TemporaryFile file;
  file.resize(200 * 100 * sizeof(float));
  const std::uint32_t crcs[2] = {};
  Vectors vectors(100, Metric::l2);
  vectors.map(file.fd(), 200);
  CHECK_THROWS(Code::invalid_argument, vectors.expect_checksums(crcs, 2));
  vectors.expect_checksums(crcs, 1);
  CHECK_THROWS(Code::corruption, vectors.row(127));
  vectors.row(128);
}

THREADED_TEST(threads_may_touch_blocks_for_the_first_time_while_rows_are_mapped) {
  std::mt19937_64 random = seeded("first touch", 26);
  const std::uint32_t dim = 64;
  const Row total = 4000;
  const std::vector<float> rows = normal_values(random, total * dim);
  const std::vector<std::uint32_t> crcs = block_checksums(rows, dim);
  const TemporaryFile file;
  file.write_at(0, rows.data(), rows.size() * sizeof(float));
  Vectors vectors(dim, Metric::cosine);
  vectors.map(file.fd(), 10);
  const Query query(rows.data(), dim, Metric::cosine);
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (unsigned seed = 0; seed < 3; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 local(seed);
      for (int i = 0; i < 3000; ++i) {
        const Row row = static_cast<Row>(local() % vectors.rows());
        const double expected = plain_distance(Metric::cosine, rows.data(), rows.data() + row * dim, dim);
        if (std::abs(expected - static_cast<double>(vectors.distance(query, row))) > 1e-5) ++wrong;
      }
    });
  }
  for (Row end = 10; end < total; end += 190) vectors.map(file.fd(), end);
  vectors.map(file.fd(), total);
  vectors.expect_checksums(crcs.data(), crcs.size());
  for (std::thread& reader : readers) reader.join();
  CHECK_EQUAL(0, wrong.load());
}

}  // namespace
}  // namespace vecdb::test
