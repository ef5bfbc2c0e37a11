// An array of fixed size whose elements begin as zero bytes, aligned to a cache line. A large one is made of huge pages where the system
// has them, and costs no memory where it was never touched. Thread rule: none of its own; elements that threads share are atomics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>

#include "reserved.hpp"

namespace vecdb {

template <class T>
class ZeroedArray {
  static_assert(std::is_trivially_destructible_v<T>, "elements are dropped with their memory");

 public:
  explicit ZeroedArray(std::size_t count) : bytes_(count * sizeof(T)) {
    if (bytes_ < kMappedFrom) {
      lines_ = std::make_unique<Line[]>((bytes_ + sizeof(Line) - 1) / sizeof(Line));
      start_ = static_cast<T*>(static_cast<void*>(lines_.get()));
    } else {
      pages_.emplace(bytes_);
      pages_->commit(bytes_);
      start_ = static_cast<T*>(pages_->base());
    }
  }

  T& operator[](std::size_t i) { return start_[i]; }
  const T& operator[](std::size_t i) const { return start_[i]; }
  T* data() { return start_; }
  const T* data() const { return start_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kMappedFrom = std::size_t{64} << 10;

  struct alignas(64) Line {
    unsigned char bytes[64];
  };

  std::size_t bytes_;
  std::unique_ptr<Line[]> lines_;
  std::optional<Reservation> pages_;
  T* start_ = nullptr;
};

}  // namespace vecdb
