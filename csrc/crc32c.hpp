// CRC32C (Castagnoli, reflected polynomial 0x82F63B78), by SSE4.2 or the ARMv8 CRC instructions where the CPU has them.
// Every implementation gives the same value; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vecdb {

// The checksum of data, continuing from crc; start with 0. crc32c(crc32c(0, a), b) == crc32c(0, a + b).
std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size) noexcept;

struct Crc32cImplementation {
  const char* name;
  std::uint32_t (*function)(std::uint32_t crc, const void* data, std::size_t size) noexcept;
};

// What this CPU can run, the one in use last; the first is the plain table.
std::vector<Crc32cImplementation> crc32c_implementations();

}  // namespace vecdb
