// A pthread_create before the C library's: the loader takes that of the executable for all, libstdc++ included.

#include "thread_count.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>

namespace {

std::atomic<std::uint64_t> started{0};

}  // namespace

#ifdef VECDB_COUNT_THREADS
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const Create create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  started.fetch_add(1, std::memory_order_relaxed);
  return create(thread, attributes, body, argument);
}
#endif

namespace vecdb::test {

std::uint64_t threads_started() noexcept { return started.load(std::memory_order_relaxed); }

}  // namespace vecdb::test
