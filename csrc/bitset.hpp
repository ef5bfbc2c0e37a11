// A set of 32-bit positions as one bit each, with an exact count.
//
// Invariant: bits at and beyond size() are zero, so that whole words can be combined and counted; positions at and beyond
// size() count as absent. Thread rule: like a standard container, readers together or one writer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vecdb {

namespace bits {

constexpr std::size_t words_for(std::uint64_t size) { return static_cast<std::size_t>((size + 63) / 64); }

// Without the CPU's instruction, which the compiler may not take for granted, and without the call that it makes instead.
constexpr int count_of(std::uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555U;
  word = (word & 0x3333333333333333U) + ((word >> 2) & 0x3333333333333333U);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0FU;
  return static_cast<int>((word * 0x0101010101010101U) >> 56);
}

// How many bits are set in count words of a, of a & b, of a & ~b. The best loop that the CPU can run is chosen once.
std::uint64_t count_words(const std::uint64_t* a, std::size_t count);
std::uint64_t count_and(const std::uint64_t* a, const std::uint64_t* b, std::size_t count);
std::uint64_t count_and_not(const std::uint64_t* a, const std::uint64_t* b, std::size_t count);

// The three loops of one set of instructions.
struct Counters {
  const char* name;
  std::uint64_t (*words)(const std::uint64_t* a, std::size_t count);
  std::uint64_t (*in_both)(const std::uint64_t* a, const std::uint64_t* b, std::size_t count);
  std::uint64_t (*in_first)(const std::uint64_t* a, const std::uint64_t* b, std::size_t count);
};

// Every set that this CPU can run, the one in use last.
std::vector<Counters> available_counters();

}  // namespace bits

class Bitset {
 public:
  Bitset() = default;
  explicit Bitset(std::uint32_t size) : words_(bits::words_for(size)), size_(size) {}

  std::uint32_t size() const { return size_; }
  const std::uint64_t* words() const { return words_.data(); }
  std::uint64_t* words() { return words_.data(); }
  std::size_t word_count() const { return words_.size(); }
  std::uint64_t bytes() const { return words_.capacity() * sizeof(std::uint64_t); }

  // New positions are absent.
  void resize(std::uint32_t size) {
    words_.resize(bits::words_for(size));
    size_ = size;
    clear_padding();
  }

  bool contains(std::uint32_t position) const { return position < size_ && ((words_[position >> 6] >> (position & 63)) & 1) != 0; }

  // REQUIRES: position < size(), for set and reset.
  void set(std::uint32_t position) { words_[position >> 6] |= std::uint64_t{1} << (position & 63); }
  void reset(std::uint32_t position) { words_[position >> 6] &= ~(std::uint64_t{1} << (position & 63)); }

  // REQUIRES: first <= last <= size().
  void set_range(std::uint32_t first, std::uint32_t last) {
    while (first < last) {
      const std::uint32_t bit = first & 63;
      const std::uint32_t run = std::min(last - first, 64 - bit);
      const std::uint64_t ones = run == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << run) - 1;
      words_[first >> 6] |= ones << bit;
      first += run;
    }
  }

  std::uint64_t count() const { return bits::count_words(words_.data(), words_.size()); }
  std::uint64_t count_and(const Bitset& other) const {
    return bits::count_and(words_.data(), other.words_.data(), std::min(words_.size(), other.words_.size()));
  }

  void and_with(const Bitset& other) {
    const std::size_t common = std::min(words_.size(), other.words_.size());
    for (std::size_t i = 0; i < common; ++i) words_[i] &= other.words_[i];
    std::fill(words_.begin() + static_cast<std::ptrdiff_t>(common), words_.end(), std::uint64_t{0});
  }

  void and_not(const Bitset& other) {
    const std::size_t common = std::min(words_.size(), other.words_.size());
    for (std::size_t i = 0; i < common; ++i) words_[i] &= ~other.words_[i];
  }

  // REQUIRES: other.size() <= size().
  void or_with(const Bitset& other) {
    for (std::size_t i = 0; i < other.words_.size(); ++i) words_[i] |= other.words_[i];
  }

  // The positions, ascending. REQUIRES: count is how many there are.
  std::vector<std::uint32_t> positions(std::uint64_t count) const {
    std::vector<std::uint32_t> found(count);
    std::uint32_t* to = found.data();
    for_each([&to](std::uint32_t position) { *to++ = position; });
    return found;
  }

  template <class Visit>
  void for_each(Visit&& visit) const {
    for (std::size_t i = 0; i < words_.size(); ++i) visit_word(i, words_[i], visit);
  }

  // Of the positions in [first, last).
  template <class Visit>
  void for_each_in(std::uint32_t first, std::uint32_t last, Visit&& visit) const {
    for_each_word_in(first, last, [&visit](std::size_t i, std::uint64_t word) { visit_word(i, word, visit); });
  }
  std::uint64_t count_in(std::uint32_t first, std::uint32_t last) const {
    std::uint64_t count = 0;
    for_each_word_in(first, last, [&count](std::size_t, std::uint64_t word) { count += static_cast<std::uint64_t>(bits::count_of(word)); });
    return count;
  }

 private:
  template <class Visit>
  static void visit_word(std::size_t i, std::uint64_t word, Visit&& visit) {
    for (; word != 0; word &= word - 1) visit(static_cast<std::uint32_t>(i * 64 + static_cast<std::size_t>(__builtin_ctzll(word))));
  }

  // Calls visit(i, word) for each word i that has positions of [first, last), without its others.
  template <class Visit>
  void for_each_word_in(std::uint32_t first, std::uint32_t last, Visit&& visit) const {
    last = std::min(last, size_);
    if (first >= last) return;
    const std::size_t low = first >> 6;
    const std::size_t high = (last - 1) >> 6;
    for (std::size_t i = low; i <= high; ++i) {
      std::uint64_t word = words_[i];
      if (i == low) word &= ~std::uint64_t{0} << (first & 63);
      if (i == high) word &= ~std::uint64_t{0} >> (63 - ((last - 1) & 63));
      visit(i, word);
    }
  }

  void clear_padding() {
    if ((size_ & 63) != 0) words_.back() &= (std::uint64_t{1} << (size_ & 63)) - 1;
  }

  std::vector<std::uint64_t> words_;
  std::uint32_t size_ = 0;
};

}  // namespace vecdb
