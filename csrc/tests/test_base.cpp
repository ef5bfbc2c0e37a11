// Coding, reserved arrays, scratch memory, and the wall to the C ABI.

#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>

#include "check.hpp"
#include "coding.hpp"
#include "guarded.hpp"
#include "reserved.hpp"
#include "samples.hpp"
#include "scratch.hpp"
#include "vecdb.h"

namespace vecdb::test {
namespace {

template <class Sink>
void write_sample(Sink& writer) {
  const float floats[] = {1.5F, -2.0F};
  writer.u8(1);
  writer.u16(0x0203);
  writer.u32(0x04050607);
  writer.u64(0x08090A0B0C0D0E0FU);
  writer.i64(-5);
  writer.f64(0.25);
  writer.numbers(floats, 2);
  writer.zeros(3);
  writer.bytes("end", 3);
}

TEST(what_a_writer_wrote_a_reader_reads) {
  Writer counting = Writer::counting();
  write_sample(counting);
  std::vector<std::uint8_t> bytes(counting.position());
  Writer writer(bytes.data(), bytes.size());
  write_sample(writer);
  CHECK_EQUAL(bytes.size(), writer.position());
  CHECK_EQUAL(0x03, static_cast<int>(bytes[1]));  // little-endian
  CHECK_EQUAL(0x02, static_cast<int>(bytes[2]));

  Reader reader(bytes.data(), bytes.size(), "the sample");
  float floats[2];
  CHECK_EQUAL(1, static_cast<int>(reader.u8()));
  CHECK_EQUAL(0x0203, static_cast<int>(reader.u16()));
  CHECK_EQUAL(0x04050607U, reader.u32());
  CHECK_EQUAL(0x08090A0B0C0D0E0FU, reader.u64());
  CHECK_EQUAL(-5, reader.i64());
  CHECK_EQUAL(0.25, reader.f64());
  reader.numbers(floats, 2);
  CHECK_EQUAL(-2.0F, floats[1]);
  reader.skip(3);
  const std::uint8_t* const end = reader.bytes(3);
  CHECK_EQUAL(std::string("end"), std::string(end, end + 3));
  reader.expect_end();
}

TEST(a_reader_stops_at_its_end_and_says_where) {
  const std::uint8_t bytes[6] = {};
  Reader reader(bytes, 6, "the links");
  reader.u32();
  const std::string message = CHECK_THROWS(Code::corruption, reader.u32());
  CHECK_EQUAL(std::string("the links: expected 4 bytes at byte 4, only 2 bytes are left"), message);
  CHECK_EQUAL(std::size_t{4}, reader.position());
  CHECK_THROWS(Code::corruption, reader.skip(std::numeric_limits<std::size_t>::max()));
  // A count whose bytes wrap around to a small number.
  std::uint64_t out[1];
  CHECK_THROWS(Code::corruption, reader.numbers(out, std::size_t{1} << 61));
  CHECK_THROWS(Code::corruption, reader.expect_end());
  CHECK_EQUAL(0, static_cast<int>(reader.u16()));
}

TEST(a_writer_stops_at_its_end) {
  std::vector<std::uint8_t> bytes(8);
  Writer writer(bytes.data(), 4);
  writer.u16(1);
  CHECK_THROWS(Code::invalid_argument, writer.u32(0xFFFFFFFF));
  CHECK_EQUAL(0, static_cast<int>(bytes[2]));
  writer.u16(1);
  CHECK_THROWS(Code::invalid_argument, writer.u8(9));
  CHECK_EQUAL(0, static_cast<int>(bytes[4]));
}

TEST(a_reserved_array_grows_with_zeros_and_never_moves) {
  ReservedArray<std::uint64_t> array(std::uint64_t{1} << 40);
  array.grow(1);
  std::uint64_t* const first = array.data();
  array[0] = 7;
  std::size_t count = 1;
  while (count < 3000000) {
    const std::size_t before = count;
    count = count * 3 + 1;
    array.grow(count);
    CHECK_EQUAL(first, array.data());
    CHECK_EQUAL(count, array.size());
    CHECK_EQUAL(std::uint64_t{0}, array[before]);
    CHECK_EQUAL(std::uint64_t{0}, array[count - 1]);
    array[count - 1] = count;
  }
  CHECK_EQUAL(std::uint64_t{7}, array[0]);
  array.grow(2);
  CHECK_EQUAL(count, array.size());
}

TEST(a_reserved_array_refuses_to_pass_its_reservation) {
  ReservedArray<std::uint32_t> array(1000);
  array.grow(1000);
  CHECK_THROWS(Code::capacity, array.grow(std::size_t{1} << 20));
  CHECK_EQUAL(std::size_t{1000}, array.size());
}

TEST(a_thousand_large_reservations_fit_into_the_address_space) {
  std::vector<std::unique_ptr<ReservedArray<float>>> arrays;
  for (int i = 0; i < 1000; ++i) {
    arrays.push_back(std::make_unique<ReservedArray<float>>(std::uint64_t{1} << 40));
    arrays.back()->grow(10);
    (*arrays.back())[9] = static_cast<float>(i);
  }
  CHECK_EQUAL(5.0F, (*arrays[5])[9]);
}

namespace {

constexpr std::size_t kPiece = 48 << 10;  // no divisor of a page of any size

std::size_t resident_pages(const Reservation& memory, std::size_t bytes) {
  std::vector<unsigned char> pages((bytes + page_size() - 1) / page_size());
  CHECK_EQUAL(0, mincore(memory.base(), bytes, pages.data()));
  return static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1U) != 0; }));
}

bool has_huge_pages_unasked() {
  std::ifstream setting("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  std::getline(setting, text);
  return text.find("[always]") != std::string::npos;
}

}  // namespace

TEST(memory_that_is_filled_here_and_there_keeps_what_it_holds_and_is_not_taken_before_it_is_used) {
  std::mt19937_64 random = seeded("pieces", 17);
  constexpr std::size_t kPieces = 400;
  for (const bool is_in_turn : {false, true}) {
    Reservation memory(kPieces * kPiece);
    HugeByUse pages(memory.base(), kPieces * kPiece);
    auto* const bytes = static_cast<std::uint8_t*>(memory.base());
    std::size_t usable = 0;
    // From less than huge pages are made of.
    const auto grow_to = [&](std::size_t pieces) {
      usable = pieces * kPiece;
      memory.commit(usable, Reservation::Pages::small);
      pages.grow(usable);
    };
    std::vector<std::size_t> order(kPieces);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (!is_in_turn) std::shuffle(order.begin(), order.end(), random);
    grow_to(is_in_turn ? kPieces / 8 : kPieces);
    std::vector<std::uint8_t> expected(kPieces * kPiece, 0);
    for (std::size_t done = 0; done < kPieces; ++done) {
      if (done == kPieces / 8) grow_to(kPieces);
      const std::size_t first = order[done] * kPiece;
      if (is_in_turn) pages.expect(first, first + kPiece);
      for (std::size_t i = first; i < first + kPiece; ++i) bytes[i] = expected[i] = static_cast<std::uint8_t>(i * 7 + done);
      pages.note(first, first + kPiece);
      if (done == 0 && !is_in_turn && !has_huge_pages_unasked()) CHECK(resident_pages(memory, usable) <= kPiece / page_size() + 2);
      if (done % 100 == 0) CHECK(std::equal(bytes, bytes + usable, expected.begin()));
    }
    CHECK(std::equal(bytes, bytes + usable, expected.begin()));
  }
}

TEST(visited_nodes_are_forgotten_on_reset) {
  VisitedNodes visited;
  for (int round = 0; round < 3; ++round) {
    visited.reset(1000);
    for (Node node = 0; node < 1000; node += static_cast<Node>(1 + round * 63)) {
      CHECK(visited.insert(node));
      CHECK(!visited.insert(node));
    }
  }
  visited.reset(5000);
  CHECK(visited.insert(4999));
  CHECK(visited.insert(0));
}

TEST(a_scratch_returns_to_its_pool) {
  ScratchPool pool;
  Scratch* first = nullptr;
  {
    const auto lease = pool.take();
    first = &*lease;
    const auto second = pool.take();
    CHECK(&*second != first);
  }
  const auto again = pool.take();
  const auto other = pool.take();
  CHECK(&*again == first || &*other == first);
}

THREADED_TEST(errors_cross_the_c_interface_as_status_and_message) {
  CHECK_EQUAL(VECDB_OK, guarded([] {}));
  CHECK_EQUAL(VECDB_CAPACITY, guarded([] { throw Error(Code::capacity, "7 do not fit into 3"); }));
  CHECK_EQUAL(std::string("7 do not fit into 3"), std::string(vecdb_last_error()));
  CHECK_EQUAL(VECDB_OUT_OF_MEMORY, guarded([] { throw std::bad_alloc(); }));
  CHECK_EQUAL(VECDB_INTERNAL, guarded([] { throw std::runtime_error("odd"); }));
  CHECK_EQUAL(std::string("odd"), std::string(vecdb_last_error()));
  CHECK_EQUAL(VECDB_INTERNAL, guarded([] { throw 3; }));
  std::thread([] { CHECK_EQUAL(std::string(""), std::string(vecdb_last_error())); }).join();
  CHECK_EQUAL(VECDB_INTERNAL, guarded([] { throw std::runtime_error(std::string(10000, 'x')); }));
  CHECK_EQUAL(std::size_t{2047}, std::string(vecdb_last_error()).size());
  CHECK_EQUAL(7U, vecdb_abi_version());
}

TEST(entries_count_as_far_as_their_checksums_hold) {
  // Keys "ab" and "", contents "cde" and "".
  const std::string content = "abcde";
  std::string data = "ab";
  const auto seal = [&](std::uint32_t crc) {
    for (int shift = 0; shift < 32; shift += 8) data += static_cast<char>(crc >> shift);
  };
  seal(vecdb_crc32c(0, content.data(), content.size()));
  data += "cde";
  seal(0);
  const std::uint32_t sizes[] = {2, 7, 0, 4};
  CHECK_EQUAL(2U, vecdb_count_sealed(data.data(), data.size(), sizes, 2));
  CHECK_EQUAL(0U, vecdb_count_sealed(nullptr, 0, nullptr, 0));
  CHECK_EQUAL(1U, vecdb_count_sealed(data.data(), data.size() - 1, sizes, 2));
  const std::uint32_t short_value[] = {2, 7, 0, 3};
  CHECK_EQUAL(1U, vecdb_count_sealed(data.data(), data.size(), short_value, 2));
  for (std::size_t byte = 0; byte < 9; ++byte) {
    std::string damaged = data;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 1);
    CHECK_EQUAL(0U, vecdb_count_sealed(damaged.data(), damaged.size(), sizes, 2));
  }
}

}  // namespace
}  // namespace vecdb::test
