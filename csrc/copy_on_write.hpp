// A value that one writer changes while readers go on using the state they took.
//
// Invariant: a value on lease never changes; writing to it makes a copy first. Thread rule: lease() under a lock that excludes
// writable(); leases may be used and dropped anywhere afterwards.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace vecdb {

template <class T>
class CopyOnWrite {
  // Leases are counted apart from the shared pointer: the writer must see the end of the last one with acquire ordering,
  // which shared_ptr::use_count does not give.
  struct Shared {
    explicit Shared(T initial) : value(std::move(initial)) {}
    T value;
    std::atomic<std::uint32_t> leases{0};
  };

 public:
  class Lease {
   public:
    Lease() = default;
    explicit Lease(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) { shared_->leases.fetch_add(1, std::memory_order_relaxed); }
    Lease(Lease&& other) noexcept : shared_(std::move(other.shared_)) {}
    Lease& operator=(Lease&& other) noexcept {
      release();
      shared_ = std::move(other.shared_);
      return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { release(); }

    const T& operator*() const { return shared_->value; }
    const T* operator->() const { return &shared_->value; }

   private:
    void release() {
      if (shared_) shared_->leases.fetch_sub(1, std::memory_order_release);
      shared_.reset();
    }

    std::shared_ptr<Shared> shared_;
  };

  Lease lease() const { return Lease(shared_); }
  const T& value() const { return shared_->value; }

  T& writable() {
    if (shared_->leases.load(std::memory_order_acquire) != 0) shared_ = std::make_shared<Shared>(shared_->value);
    return shared_->value;
  }

 private:
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>(T{});
};

}  // namespace vecdb
