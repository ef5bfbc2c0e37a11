// Objects that are made when all are in use, and lent for one piece of work at a time, so that work that is repeated allocates nothing.
// Thread rule: take from any thread; a lease belongs to one thread, and must end before its pool does.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

namespace vecdb {

template <class T>
class LeasePool {
 public:
  class Lease {
   public:
    Lease(LeasePool& pool, std::unique_ptr<T> object) : pool_(&pool), object_(std::move(object)) {}
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (object_ != nullptr) pool_->give_back(std::move(object_));
    }
    T& operator*() const { return *object_; }
    T* operator->() const { return object_.get(); }

   private:
    LeasePool* pool_;
    std::unique_ptr<T> object_;
  };

  Lease take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (idle_count_ > 0) return Lease(*this, std::move(idle_[--idle_count_]));
    }
    return Lease(*this, std::make_unique<T>());
  }

 private:
  // Never allocates; what does not fit is freed.
  void give_back(std::unique_ptr<T> object) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_count_ < idle_.size()) idle_[idle_count_++] = std::move(object);
  }

  std::mutex mutex_;
  std::array<std::unique_ptr<T>, 64> idle_;
  std::size_t idle_count_ = 0;
};

}  // namespace vecdb
