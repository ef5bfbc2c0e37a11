// The offsets of one tag: a sorted array while they are few, a bitset once they are dense.
//
// Invariant: count() is exact, offsets are unique. A single offset needs no allocation, since a keyword may have as many values
// as points. Thread rule: like a standard container.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "bitset.hpp"
#include "types.hpp"

namespace vecdb {

class Posting {
 public:
  std::uint32_t count() const { return count_; }
  bool is_dense() const { return dense_ != nullptr; }

  // REQUIRES: !is_dense(). Ascending, count() of them.
  const Offset* sorted() const { return count_ == 1 ? &only_ : sorted_.data(); }
  // REQUIRES: is_dense().
  const Bitset& dense() const { return *dense_; }

  bool contains(Offset offset) const;

  // Of the offsets in [first, last), ascending.
  template <class Visit>
  void for_each_in(Offset first, Offset last, Visit&& visit) const {
    if (is_dense()) return dense_->for_each_in(first, last, visit);
    const Offset* end = sorted() + count_;
    for (const Offset* at = std::lower_bound(sorted(), end, first); at != end && *at < last; ++at) visit(*at);
  }
  std::uint32_t count_in(Offset first, Offset last) const;

  // REQUIRES: offsets ascending and unique. Offsets that are there already, or are not there, are no error.
  void add(const Offset* offsets, std::uint32_t count);
  void remove(const Offset* offsets, std::uint32_t count);

  std::uint64_t bytes() const;

 private:
  void assign(std::vector<Offset> sorted);
  void make_dense(std::uint32_t span);
  void make_sparse();
  void add_dense(const Offset* offsets, std::uint32_t count);
  void add_sparse(const Offset* offsets, std::uint32_t count);

  std::uint32_t count_ = 0;
  Offset only_ = 0;  // the offset when count_ is 1 and the posting is not dense; sorted_ is empty then
  std::vector<Offset> sorted_;
  std::unique_ptr<Bitset> dense_;
};

}  // namespace vecdb
