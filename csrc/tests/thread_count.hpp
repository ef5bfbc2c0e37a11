// How many threads this process has started, whoever in it started them; always 0 unless VECDB_COUNT_THREADS is
// defined, as a sanitizer has a pthread_create of its own.
#pragma once

#include <cstdint>

namespace vecdb::test {

std::uint64_t threads_started() noexcept;

}  // namespace vecdb::test
