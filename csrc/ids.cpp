// Ids in the order of their offsets, texts in an arena without gaps but at the ends of its chunks.

#include "ids.hpp"

#include <cstring>
#include <string>

#include "error.hpp"

namespace vecdb {

namespace {

constexpr unsigned kLengthBits = 16;
constexpr std::uint64_t kLengthMask = (std::uint64_t{1} << kLengthBits) - 1;

std::uint64_t start_of(std::uint64_t place) { return place >> kLengthBits; }
std::uint64_t length_of(std::uint64_t place) { return place & kLengthMask; }

}  // namespace

void Ids::check(const IdBatch& batch) {
  for (std::uint32_t i = 0; i < batch.count; ++i) {
    if (batch.kinds[i] > static_cast<std::uint8_t>(IdKind::text)) {
      throw Error(Code::invalid_argument, "id " + std::to_string(i) + ": kind is " + std::to_string(batch.kinds[i]) + ", expected 0 or 1");
    }
    if (batch.kinds[i] == static_cast<std::uint8_t>(IdKind::integer)) continue;
    const std::uint64_t start = start_of(batch.values[i]);
    const std::uint64_t length = length_of(batch.values[i]);
    if (start > batch.text_size || length > batch.text_size - start) {
      throw Error(Code::invalid_argument, "id " + std::to_string(i) + ": its text is bytes [" + std::to_string(start) + ", " +
                                              std::to_string(start + length) + ") of " + std::to_string(batch.text_size));
    }
  }
}

void Ids::append(const IdBatch& batch) {
  // Room first, so that what follows cannot fail.
  std::uint64_t arena_end = arena_end_.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < batch.count; ++i) {
    if (batch.kinds[i] == static_cast<std::uint8_t>(IdKind::integer)) continue;
    const std::uint64_t length = length_of(batch.values[i]);
    arena_end = text_start(arena_end, length) + length;
  }
  const std::uint64_t end = std::uint64_t{count_} + batch.count;
  values_.reserve(end);
  kinds_.reserve((end + 63) / 64);
  arena_.reserve(arena_end);
  for (std::uint32_t i = 0; i < batch.count; ++i, ++count_) {
    const bool is_text = batch.kinds[i] == static_cast<std::uint8_t>(IdKind::text);
    const std::uint64_t value = batch.values[i];
    values_[count_] = is_text ? add_text(batch.text + start_of(value), length_of(value)) : value;
    std::atomic<std::uint64_t>& word = kinds_[count_ / 64];
    const std::uint64_t others = count_ % 64 == 0 ? 0 : word.load(std::memory_order_relaxed);
    word.store(others | std::uint64_t{is_text} << (count_ % 64), std::memory_order_relaxed);
  }
}

std::uint64_t Ids::text_start(std::uint64_t end, std::uint64_t length) const {
  const std::uint64_t left = arena_.contiguous_from(end);
  return left < length ? end + left : end;
}

std::uint64_t Ids::add_text(const char* text, std::uint64_t length) {
  const std::uint64_t start = text_start(arena_end_.load(std::memory_order_relaxed), length);
  if (length > 0) std::memcpy(&arena_[start], text, length);
  arena_end_.store(start + length, std::memory_order_release);
  return start << kLengthBits | length;
}

IdKind Ids::kind(Offset offset) const {
  return static_cast<IdKind>(kinds_[offset / 64].load(std::memory_order_relaxed) >> (offset % 64) & 1);
}

std::string_view Ids::text_at(std::uint64_t place) const {
  const std::uint64_t length = length_of(place);
  return length == 0 ? std::string_view() : std::string_view(&arena_[start_of(place)], length);
}

std::string_view Ids::text(std::uint64_t place) const {
  const std::uint64_t end = arena_end_.load(std::memory_order_acquire);
  const std::uint64_t start = start_of(place);
  const std::uint64_t length = length_of(place);
  if (start > end || length > end - start || (length > 0 && length > arena_.contiguous_from(start))) {
    throw Error(Code::invalid_argument,
                "no str id lies at place " + std::to_string(place) + "; pass a place that a search or get_ids gave");
  }
  return text_at(place);
}

bool Ids::before(Offset a, Offset b) const {
  const IdKind kind_a = kind(a);
  const IdKind kind_b = kind(b);
  if (kind_a != kind_b) return kind_a == IdKind::integer;
  if (kind_a == IdKind::integer) return value(a) < value(b);
  return text_at(value(a)) < text_at(value(b));
}

}  // namespace vecdb
