// A number that looks random, the same for the same value: levels of nodes, samples of rows. A pure function.
#pragma once

#include <cstdint>

namespace vecdb {

// SplitMix64's finaliser (Steele, Lea, Flood 2014).
inline std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

}  // namespace vecdb
