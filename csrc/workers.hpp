// Work shared between the calling thread and helpers that live as long as the call.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace vecdb {

// Run worker() in the calling thread and in up to threads - 1 others, wait for all, and throw the first exception of any.
// Where the system refuses more threads, fewer do the work: worker must take its share from a common counter.
template <class Worker>
void run_workers(std::uint32_t threads, const Worker& worker) {
  std::exception_ptr first_failure;
  std::mutex failure_mutex;
  const auto guarded_worker = [&]() noexcept {
    try {
      worker();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failure_mutex);
      if (first_failure == nullptr) first_failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back(guarded_worker);
  } catch (const std::system_error&) {
    // no more threads, or no memory for them: those that run are enough
  } catch (const std::bad_alloc&) {
  }
  guarded_worker();
  for (std::thread& helper : helpers) helper.join();
  if (first_failure != nullptr) std::rethrow_exception(first_failure);
}

}  // namespace vecdb
