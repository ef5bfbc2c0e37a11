// A short list, looked through from the front: comparing a few hashes costs less than a table would.

#include "selection_cache.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace vecdb {
namespace {

constexpr std::size_t kMaxEntries = 128;
constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;

// FNV-1a over words, of every fourth word apart: a program that lists many offsets need not wait for one product after the other.
std::uint64_t hash_of(const Program& program) {
  constexpr std::uint64_t kPrime = 0x100000001B3U;
  std::array<std::uint64_t, 4> lanes = {0xCBF29CE484222325U, 1, 2, 3};
  const std::uint64_t* const words = program.words();
  std::size_t at = 0;
  for (; at + lanes.size() <= program.size(); at += lanes.size()) {
    for (std::size_t i = 0; i < lanes.size(); ++i) lanes[i] = (lanes[i] ^ words[at + i]) * kPrime;
  }
  std::uint64_t hash = program.size();
  for (; at < program.size(); ++at) hash = (hash ^ words[at]) * kPrime;
  for (const std::uint64_t lane : lanes) hash = (hash ^ lane) * kPrime;
  return hash;
}

std::uint64_t bytes_of(const Program& program, const RowSelection& rows) {
  return program.size() * sizeof(std::uint64_t) + rows.list.capacity() * sizeof(Row) + rows.bits.bytes();
}

}  // namespace

std::shared_ptr<const RowSelection> SelectionCache::find(std::uint32_t field, const Program& program) {
  const std::uint64_t hash = hash_of(program);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.hash == hash && entry.field == field &&
           std::equal(entry.words.begin(), entry.words.end(), program.words(), program.words() + program.size());
  });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return found->rows;
}

SelectionCache::Epoch SelectionCache::epoch() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return epoch_;
}

void SelectionCache::put(Epoch epoch, std::uint32_t field, const Program& program, std::shared_ptr<const RowSelection> rows) {
  const std::uint64_t bytes = bytes_of(program, *rows);
  if (bytes > kMaxBytes) return;
  std::list<Entry> made;
  made.push_back({field, hash_of(program), {program.words(), program.words() + program.size()}, std::move(rows), bytes});
  std::list<Entry> dropped;  // freed after the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  if (epoch != epoch_) return;
  entries_.splice(entries_.begin(), made);
  bytes_ += bytes;
  while (entries_.size() > kMaxEntries || bytes_ > kMaxBytes) {
    bytes_ -= entries_.back().bytes;
    dropped.splice(dropped.begin(), entries_, std::prev(entries_.end()));
  }
}

void SelectionCache::clear() {
  std::list<Entry> dropped;
  const std::lock_guard<std::mutex> lock(mutex_);
  ++epoch_;
  bytes_ = 0;
  dropped.swap(entries_);
}

}  // namespace vecdb
