// The part of the C ABI that needs no handle: version, kernels, checksums and the last error of a thread.

#include <cstring>
#include <string>

#include "coding.hpp"
#include "crc32c.hpp"
#include "distance.hpp"
#include "guarded.hpp"
#include "vecdb.h"
#include "vectors.hpp"

namespace vecdb {
namespace {

thread_local char last_error[2048] = "";

}  // namespace

void set_last_error(const char* message) noexcept {
  std::strncpy(last_error, message, sizeof(last_error) - 1);
  last_error[sizeof(last_error) - 1] = '\0';
}

}  // namespace vecdb

extern "C" {

const char* vecdb_last_error(void) { return vecdb::last_error; }

uint32_t vecdb_abi_version(void) { return 7; }

const char* vecdb_kernels(void) {
  static const std::string names = std::string(vecdb::kernels().name) + " " + vecdb::crc32c_implementations().back().name;
  return names.c_str();
}

uint32_t vecdb_crc32c(uint32_t crc, const void* data, uint64_t size) { return vecdb::crc32c(crc, data, size); }

uint64_t vecdb_count_sealed(const void* data, uint64_t size, const void* sizes, uint64_t count) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  const auto* lengths = static_cast<const unsigned char*>(sizes);
  constexpr uint64_t kSeal = sizeof(uint32_t);
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t length[2];
    std::memcpy(length, lengths + i * sizeof(length), sizeof(length));
    const uint64_t key = length[0];
    const uint64_t value = length[1];
    if (value < kSeal || key + value > size) return i;
    const uint32_t crc = vecdb::crc32c(vecdb::crc32c(0, bytes, key), bytes + key + kSeal, value - kSeal);
    if (std::memcmp(bytes + key, &crc, kSeal) != 0) return i;
    bytes += key + value;
    size -= key + value;
  }
  return count;
}

uint32_t vecdb_rows_per_block(uint32_t dim) { return vecdb::rows_per_block(dim); }

}  // extern "C"
