// A shared mutex that lets a waiting writer in before readers that come later.
//
// std::shared_mutex prefers readers on Linux, so that overlapping searches would keep a write waiting for ever. Whoever
// wants in passes a turnstile, which a writer holds while it waits. Meets the SharedMutex requirements that std::shared_lock and
// std::unique_lock use.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace vecdb {

class FairSharedMutex {
 public:
  void lock() {
    const std::lock_guard<std::mutex> turn(turnstile_);
    shared_.lock();
  }
  void unlock() { shared_.unlock(); }
  void lock_shared() {
    const std::lock_guard<std::mutex> turn(turnstile_);
    shared_.lock_shared();
  }
  void unlock_shared() { shared_.unlock_shared(); }

 private:
  std::mutex turnstile_;
  std::shared_mutex shared_;
};

}  // namespace vecdb
