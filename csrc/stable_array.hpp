// An array that grows without moving its elements: chunk c holds kFirst << c of them.
//
// Invariant: the address of an element never changes. Thread rule: one thread grows and writes; others may read elements
// whose writing happened before (they learnt of them under a lock or by an acquire), while it goes on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace vecdb {

template <class T, std::uint64_t kFirst = 1024>
class StableArray {
  static_assert((kFirst & (kFirst - 1)) == 0, "the first chunk's size must be a power of two");

 public:
  const T& operator[](std::uint64_t index) const { return const_at(index); }
  T& operator[](std::uint64_t index) {
    const Place place = place_of(index);
    return chunks_[place.chunk][place.index];
  }

  // Make room for [0, size). May throw std::bad_alloc and leaves the array as it was then. New elements are uninitialised.
  void reserve(std::uint64_t size) {
    while (capacity_ < size) {
      const std::uint64_t length = kFirst << used_;
      chunks_[used_] = std::unique_ptr<T[]>(new T[length]);
      ++used_;
      capacity_ += length;
    }
  }

  // Elements from index to the end of its chunk lie side by side.
  std::uint64_t contiguous_from(std::uint64_t index) const {
    const Place place = place_of(index);
    return (kFirst << place.chunk) - place.index;
  }

  std::uint64_t capacity() const { return capacity_; }
  std::uint64_t bytes() const { return capacity_ * sizeof(T); }

 private:
  struct Place {
    std::size_t chunk;
    std::uint64_t index;
  };

  static Place place_of(std::uint64_t index) {
    const std::uint64_t shifted = index + kFirst;
    const auto chunk = static_cast<std::size_t>(__builtin_clzll(kFirst) - __builtin_clzll(shifted));
    return {chunk, shifted - (kFirst << chunk)};
  }

  const T& const_at(std::uint64_t index) const {
    const Place place = place_of(index);
    return chunks_[place.chunk][place.index];
  }

  std::array<std::unique_ptr<T[]>, 48> chunks_;
  std::size_t used_ = 0;
  std::uint64_t capacity_ = 0;
};

}  // namespace vecdb
