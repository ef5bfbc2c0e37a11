// Distance kernels and checksums: every implementation this CPU can run, against a plain computation.

#include <cmath>
#include <cstring>
#include <string>

#include "check.hpp"
#include "crc32c.hpp"
#include "distance.hpp"
#include "samples.hpp"
#include "vecdb.h"

namespace vecdb::test {
namespace {

// The error bound of a sum of dim products in any order: dim roundings of the sum of magnitudes.
void check_close(double expected, float actual, double magnitude, std::size_t dim) {
  const double bound = (static_cast<double>(dim) + 4.0) * 6e-8 * magnitude;
  CHECK(std::abs(expected - static_cast<double>(actual)) <= bound);
}

TEST(every_kernel_agrees_with_a_plain_sum_at_every_dimension) {
  std::mt19937_64 random = seeded("kernels", 11);
  std::vector<std::size_t> dims = {100, 127, 128, 384, 768, 1000};
  for (std::size_t dim = 1; dim <= 70; ++dim) dims.push_back(dim);
  for (const std::size_t dim : dims) {
    // One float of offset, so that no load is aligned.
    const std::vector<float> a = normal_values(random, dim + 1), b = normal_values(random, dim + 1);
    double magnitude = 0;
    for (std::size_t i = 1; i <= dim; ++i) magnitude += std::abs(static_cast<double>(a[i]) * static_cast<double>(b[i]));
    for (const Kernels& kernel : available_kernels()) {
      const double squared = plain_distance(Metric::l2, a.data() + 1, b.data() + 1, dim);
      check_close(squared, kernel.l2_squared(a.data() + 1, b.data() + 1, dim), squared, dim);
      const double dot = -plain_distance(Metric::dot, a.data() + 1, b.data() + 1, dim);
      check_close(dot, kernel.dot(a.data() + 1, b.data() + 1, dim), magnitude, dim);
    }
  }
}

TEST(a_tile_gives_every_pair_the_bits_of_the_single_kernel) {
  std::mt19937_64 random = seeded("tiles of floats", 13);
  std::vector<std::size_t> dims = {100, 127, 128, 384, 1000};
  for (std::size_t dim = 1; dim <= 140; ++dim) dims.push_back(dim);
  for (const std::size_t dim : dims) {
    const std::size_t stride = dim + 5;
    const std::vector<float> queries = normal_values(random, kTileQueries * stride), values = normal_values(random, kTileRows * dim);
    const float* const rows[kTileRows] = {values.data(), values.data() + dim};
    for (const Kernels& kernel : available_kernels()) {
      float squared[kTileRows * kTileQueries], dots[kTileRows * kTileQueries];
      kernel.tiles.l2_squared(queries.data(), stride, rows, dim, squared);
      kernel.tiles.dot(queries.data(), stride, rows, dim, dots);
      for (std::size_t i = 0; i < kTileRows * kTileQueries; ++i) {
        const float* query = queries.data() + i % kTileQueries * stride;
        CHECK_EQUAL(kernel.l2_squared(query, rows[i / kTileQueries], dim), squared[i]);
        CHECK_EQUAL(kernel.dot(query, rows[i / kTileQueries], dim), dots[i]);
      }
    }
  }
}

TEST(kernels_do_not_depend_on_alignment) {
  std::mt19937_64 random = seeded("alignment", 12);
  const std::vector<float> a = normal_values(random, 97), b = normal_values(random, 97);
  for (const Kernels& kernel : available_kernels()) {
    const float expected = kernel.dot(a.data(), b.data(), 97);
    for (std::size_t shift = 1; shift < 16; ++shift) {
      std::vector<float> moved(97 + shift);
      std::memcpy(moved.data() + shift, a.data(), 97 * sizeof(float));
      CHECK_EQUAL(expected, kernel.dot(moved.data() + shift, b.data(), 97));
    }
  }
}

TEST(the_best_kernel_of_this_cpu_is_in_use) {
  CHECK_EQUAL(std::string(available_kernels().back().name), std::string(kernels().name));
  CHECK_EQUAL(std::string("plain"), std::string(available_kernels().front().name));
  CHECK(std::string(vecdb_kernels()).find(kernels().name) == 0);
}

TEST(inverse_norm_survives_huge_and_tiny_values) {
  const float huge[] = {3e38F, 3e38F, 0.0F};
  CHECK(std::abs(static_cast<double>(inverse_norm(huge, 3)) * 3e38 * std::sqrt(2.0) - 1.0) < 1e-5);
  const float tiny[] = {1e-30F, 0.0F, 0.0F, 0.0F, 0.0F};
  CHECK(std::abs(static_cast<double>(inverse_norm(tiny, 5)) * 1e-30 - 1.0) < 1e-5);
  const float zero[] = {0.0F, 0.0F};
  CHECK_EQUAL(0.0F, inverse_norm(zero, 2));
}

TEST(crc32c_gives_the_known_answers) {
  // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
  const std::string zeros(32, '\0'), ones(32, '\xFF');
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<char>(i));
  for (const Crc32cImplementation& crc : crc32c_implementations()) {
    CHECK_EQUAL(0xE3069283U, crc.function(0, "123456789", 9));
    CHECK_EQUAL(0x8A9136AAU, crc.function(0, zeros.data(), 32));
    CHECK_EQUAL(0x62A8AB43U, crc.function(0, ones.data(), 32));
    CHECK_EQUAL(0x46DD794EU, crc.function(0, ascending.data(), 32));
    CHECK_EQUAL(0U, crc.function(0, nullptr, 0));
  }
}

TEST(crc32c_by_instruction_equals_crc32c_by_table_for_every_split) {
  std::mt19937_64 random = seeded("crc32c", 13);
  std::vector<unsigned char> bytes(300);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  const Crc32cImplementation table = crc32c_implementations().front();
  for (const Crc32cImplementation& crc : crc32c_implementations()) {
    for (std::size_t start = 0; start < 9; ++start) {
      const std::uint32_t expected = table.function(7, bytes.data() + start, bytes.size() - start);
      for (std::size_t middle = start; middle <= bytes.size(); middle += 5) {
        const std::uint32_t first = crc.function(7, bytes.data() + start, middle - start);
        CHECK_EQUAL(expected, crc.function(first, bytes.data() + middle, bytes.size() - middle));
      }
    }
  }
  CHECK_EQUAL(table.function(0, bytes.data(), bytes.size()), vecdb_crc32c(0, bytes.data(), bytes.size()));
}

}  // namespace
}  // namespace vecdb::test
