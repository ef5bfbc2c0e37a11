// CRC32C by table, eight bytes a step, and by the CPU's own instruction.

#include "crc32c.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace vecdb {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;

// tables[k][b]: the remainder of byte b followed by k zero bytes.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1U) != 0 ? kPolynomial : 0U);
    tables[0][byte] = rest;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t previous = tables[k - 1][byte];
      tables[k][byte] = (previous >> 8) ^ tables[0][previous & 0xFFU];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint64_t load_u64(const unsigned char* bytes) {
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

std::uint32_t by_table(std::uint32_t crc, const void* data, std::size_t size) noexcept {
  const unsigned char* bytes = static_cast<const unsigned char*>(data);
  std::uint32_t rest = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) {
    const std::uint64_t word = load_u64(bytes) ^ rest;
    rest = 0;
    for (std::size_t k = 0; k < 8; ++k) rest ^= kTables[7 - k][(word >> (8 * k)) & 0xFFU];
  }
  for (; size > 0; --size, ++bytes) rest = (rest >> 8) ^ kTables[0][(rest ^ *bytes) & 0xFFU];
  return ~rest;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) std::uint32_t by_sse42(std::uint32_t crc, const void* data, std::size_t size) noexcept {
  const unsigned char* bytes = static_cast<const unsigned char*>(data);
  std::uint64_t rest = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) rest = _mm_crc32_u64(rest, load_u64(bytes));
  std::uint32_t last = static_cast<std::uint32_t>(rest);
  for (; size > 0; --size, ++bytes) last = _mm_crc32_u8(last, *bytes);
  return ~last;
}

#elif defined(__aarch64__) && defined(__linux__)

__attribute__((target("+crc"))) std::uint32_t by_armv8(std::uint32_t crc, const void* data, std::size_t size) noexcept {
  const unsigned char* bytes = static_cast<const unsigned char*>(data);
  std::uint32_t rest = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) rest = __crc32cd(rest, load_u64(bytes));
  for (; size > 0; --size, ++bytes) rest = __crc32cb(rest, *bytes);
  return ~rest;
}

#endif

}  // namespace

std::vector<Crc32cImplementation> crc32c_implementations() {
  std::vector<Crc32cImplementation> all = {{"crc32c-table", by_table}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) all.push_back({"crc32c-sse4.2", by_sse42});
#elif defined(__aarch64__) && defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_CRC32) != 0) all.push_back({"crc32c-armv8", by_armv8});
#endif
  return all;
}

std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size) noexcept {
  static const Crc32cImplementation chosen = crc32c_implementations().back();
  return chosen.function(crc, data, size);
}

}  // namespace vecdb
