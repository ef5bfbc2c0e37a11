// The part of the C ABI that needs no handle: version, kernels, checksums and the last error of a thread.

#include <cstring>
#include <string>

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

uint32_t vecdb_abi_version(void) { return 6; }

const char* vecdb_kernels(void) {
  static const std::string names = std::string(vecdb::kernels().name) + " " + vecdb::crc32c_implementations().back().name;
  return names.c_str();
}

uint32_t vecdb_crc32c(uint32_t crc, const void* data, uint64_t size) { return vecdb::crc32c(crc, data, size); }

vecdb_status vecdb_crc32c_each(const void* data, uint64_t size, const uint64_t* sizes, uint64_t count, uint32_t* out_crcs) {
  return vecdb::guarded([&] {
    const auto* bytes = static_cast<const unsigned char*>(data);
    if ((bytes == nullptr && size > 0) || ((sizes == nullptr || out_crcs == nullptr) && count > 0)) {
      throw vecdb::Error(vecdb::Code::invalid_argument, "data, sizes or out_crcs is NULL");
    }
    uint64_t begin = 0;
    for (uint64_t i = 0; i < count; ++i) {
      if (sizes[i] > size - begin) throw vecdb::Error(vecdb::Code::invalid_argument, "the pieces are longer than the data");
      out_crcs[i] = vecdb::crc32c(0, bytes + begin, sizes[i]);
      begin += sizes[i];
    }
    if (begin != size) throw vecdb::Error(vecdb::Code::invalid_argument, "the pieces are shorter than the data");
  });
}

uint32_t vecdb_rows_per_block(uint32_t dim) { return vecdb::rows_per_block(dim); }

}  // extern "C"
