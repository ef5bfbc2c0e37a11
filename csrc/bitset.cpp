// Counting bits by instruction set; the loops are plain, and each compiler makes wide ones of them where the CPU can count wide.

#include "bitset.hpp"

namespace vecdb::bits {
namespace {

#define VECDB_COUNTERS(suffix, attribute, one)                                                                \
  attribute std::uint64_t words_##suffix(const std::uint64_t* a, std::size_t count) {                         \
    std::uint64_t total = 0;                                                                                  \
    for (std::size_t i = 0; i < count; ++i) total += static_cast<std::uint64_t>(one(a[i]));                   \
    return total;                                                                                             \
  }                                                                                                           \
  attribute std::uint64_t both_##suffix(const std::uint64_t* a, const std::uint64_t* b, std::size_t count) {  \
    std::uint64_t total = 0;                                                                                  \
    for (std::size_t i = 0; i < count; ++i) total += static_cast<std::uint64_t>(one(a[i] & b[i]));            \
    return total;                                                                                             \
  }                                                                                                           \
  attribute std::uint64_t first_##suffix(const std::uint64_t* a, const std::uint64_t* b, std::size_t count) { \
    std::uint64_t total = 0;                                                                                  \
    for (std::size_t i = 0; i < count; ++i) total += static_cast<std::uint64_t>(one(a[i] & ~b[i]));           \
    return total;                                                                                             \
  }

VECDB_COUNTERS(portable, , count_of)
#if defined(__x86_64__)
VECDB_COUNTERS(popcnt, __attribute__((target("popcnt"))), __builtin_popcountll)
VECDB_COUNTERS(avx512, __attribute__((target("avx512f,avx512vpopcntdq,popcnt"))), __builtin_popcountll)
#endif

const Counters& counters() {
  static const Counters chosen = available_counters().back();
  return chosen;
}

}  // namespace

std::vector<Counters> available_counters() {
  std::vector<Counters> all = {{"portable", words_portable, both_portable, first_portable}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("popcnt")) all.push_back({"popcnt", words_popcnt, both_popcnt, first_popcnt});
  if (__builtin_cpu_supports("avx512vpopcntdq")) all.push_back({"avx512vpopcntdq", words_avx512, both_avx512, first_avx512});
#endif
  return all;
}

std::uint64_t count_words(const std::uint64_t* a, std::size_t count) { return counters().words(a, count); }
std::uint64_t count_and(const std::uint64_t* a, const std::uint64_t* b, std::size_t count) { return counters().in_both(a, b, count); }
std::uint64_t count_and_not(const std::uint64_t* a, const std::uint64_t* b, std::size_t count) { return counters().in_first(a, b, count); }

}  // namespace vecdb::bits
