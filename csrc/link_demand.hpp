// Which tags searches ask for often enough to deserve links of their own, counted in queries.
//
// Thread rule: like a standard container.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "types.hpp"

namespace vecdb {

class LinkDemand {
 public:
  std::uint64_t now() const { return clock_; }
  void tick(std::uint64_t searches) { clock_ += searches; }

  // These searches would have gained much by links of the tag; true once enough of them have.
  bool note(Tag tag, std::uint64_t searches);
  void forget(Tag tag) { searches_.erase(tag); }
  // Links of the tag were found not to pay: it takes many more searches to look again.
  void decline(Tag tag) { searches_[tag] = -static_cast<std::int64_t>(kIdle); }

  // There was no room for another set: nothing is wanted for a while.
  void pause() { paused_until_ = clock_ + kIdle; }
  bool is_paused() const { return clock_ < paused_until_; }
  // Whether a set used then may leave for another: tags that take turns must not push each other out.
  bool is_idle(std::uint64_t used) const { return clock_ - used >= kIdle; }

 private:
  static constexpr std::int64_t kEnough = 8;
  static constexpr std::uint64_t kIdle = 1024;
  static constexpr std::size_t kMostTags = 4096;

  std::uint64_t clock_ = kIdle;
  std::uint64_t paused_until_ = 0;
  std::unordered_map<Tag, std::int64_t> searches_;
};

inline bool LinkDemand::note(Tag tag, std::uint64_t searches) {
  if (is_paused()) return false;
  // What was asked for long ago and rarely is forgotten with the rest: what is asked for often comes back at once.
  if (searches_.size() >= kMostTags) searches_.clear();
  std::int64_t& seen = searches_[tag];
  seen += static_cast<std::int64_t>(searches);
  return seen >= kEnough;
}

}  // namespace vecdb
