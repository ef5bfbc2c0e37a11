// Where a posting changes between array and bitset, and both of its forms.

#include "postings.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace vecdb {

namespace {

// A bit costs 1/32 of an array element, so a bitset is the smaller one from 1 in 32 on. Leaving it only at 1 in 128 keeps a
// posting that lives near the border from changing its form with every write.
constexpr std::uint64_t kDenseFrom = 32;
constexpr std::uint64_t kSparseFrom = 128;
constexpr std::uint32_t kSmallestDense = 64;

bool worth_bitset(std::uint64_t count, std::uint64_t span) { return count >= kSmallestDense && count * kDenseFrom >= span; }

bool worth_array(std::uint64_t count, std::uint64_t span) { return count < kSmallestDense / 2 || count * kSparseFrom < span; }

}  // namespace

bool Posting::contains(Offset offset) const {
  if (dense_) return dense_->contains(offset);
  const Offset* first = sorted();
  return std::binary_search(first, first + count_, offset);
}

std::uint32_t Posting::count_in(Offset first, Offset last) const {
  if (dense_) return static_cast<std::uint32_t>(dense_->count_in(first, last));
  const Offset* end = sorted() + count_;
  const Offset* low = std::lower_bound(sorted(), end, first);
  return static_cast<std::uint32_t>(std::lower_bound(low, end, last) - low);
}

void Posting::assign(std::vector<Offset> sorted) {
  dense_.reset();
  count_ = static_cast<std::uint32_t>(sorted.size());
  if (count_ == 1) {
    only_ = sorted.front();
    sorted_ = std::vector<Offset>();
  } else {
    sorted_ = std::move(sorted);
  }
}

void Posting::make_dense(std::uint32_t span) {
  auto dense = std::make_unique<Bitset>(span);
  const Offset* first = sorted();
  for (std::uint32_t i = 0; i < count_; ++i) dense->set(first[i]);
  dense_ = std::move(dense);
  sorted_ = std::vector<Offset>();
}

void Posting::make_sparse() {
  std::vector<Offset> offsets;
  offsets.reserve(count_);
  dense_->for_each([&](std::uint32_t offset) { offsets.push_back(offset); });
  assign(std::move(offsets));
}

void Posting::add(const Offset* offsets, std::uint32_t count) {
  if (count == 0) return;
  if (dense_) {
    const std::uint64_t span = std::max<std::uint64_t>(dense_->size(), std::uint64_t{offsets[count - 1]} + 1);
    if (worth_array(std::uint64_t{count_} + count, span)) make_sparse();
  }
  if (dense_) {
    add_dense(offsets, count);
  } else {
    add_sparse(offsets, count);
  }
}

void Posting::add_dense(const Offset* offsets, std::uint32_t count) {
  if (offsets[count - 1] >= dense_->size()) dense_->resize(offsets[count - 1] + 1);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (dense_->contains(offsets[i])) continue;
    dense_->set(offsets[i]);
    ++count_;
  }
}

void Posting::add_sparse(const Offset* offsets, std::uint32_t count) {
  if (count_ > 1 && offsets[0] > sorted_.back()) {
    sorted_.insert(sorted_.end(), offsets, offsets + count);
    count_ += count;
  } else {
    std::vector<Offset> merged;
    merged.reserve(std::size_t{count_} + count);
    const Offset* first = sorted();
    std::set_union(first, first + count_, offsets, offsets + count, std::back_inserter(merged));
    assign(std::move(merged));
  }
  const Offset last = sorted()[count_ - 1];
  if (last != UINT32_MAX && worth_bitset(count_, std::uint64_t{last} + 1)) make_dense(last + 1);
}

void Posting::remove(const Offset* offsets, std::uint32_t count) {
  if (count_ == 0 || count == 0) return;
  if (dense_) {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!dense_->contains(offsets[i])) continue;
      dense_->reset(offsets[i]);
      --count_;
    }
    if (worth_array(count_, dense_->size())) make_sparse();
    return;
  }
  std::vector<Offset> left;
  left.reserve(count_);
  const Offset* first = sorted();
  std::set_difference(first, first + count_, offsets, offsets + count, std::back_inserter(left));
  assign(std::move(left));
}

std::uint64_t Posting::bytes() const {
  return sizeof(Posting) + sorted_.capacity() * sizeof(Offset) + (dense_ ? sizeof(Bitset) + dense_->bytes() : 0);
}

}  // namespace vecdb
