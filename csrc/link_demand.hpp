// What searches ask for often enough to deserve links of its own, counted in queries. A mark stands for a tag, a window or a cell.
//
// Thread rule: like a standard container.
#pragma once

#include <cstdint>
#include <unordered_map>

namespace vecdb {

class LinkDemand {
 public:
  std::uint64_t now() const { return clock_; }
  void tick(std::uint64_t searches) { clock_ += searches; }

  // These searches would have gained much by its links; true once enough of them have.
  bool note(std::uint64_t mark, std::uint64_t searches);
  void forget(std::uint64_t mark) { searches_.erase(mark); }
  // Its links were found not to pay: it takes many more searches to look again.
  void decline(std::uint64_t mark) { searches_[mark] = -static_cast<std::int64_t>(kIdle); }
  // Somebody asked for them, so that the next search is enough, unless they were declined.
  void hasten(std::uint64_t mark) {
    std::int64_t& seen = searches_[mark];
    if (seen >= 0) seen = kEnough;
  }

  // There was no room for another set: nothing is wanted for a while.
  void pause() { paused_until_ = clock_ + kIdle; }
  // There is room again.
  void resume() { paused_until_ = clock_; }
  bool is_paused() const { return clock_ < paused_until_; }
  // Whether a set used then may leave for another: tags that take turns must not push each other out.
  bool is_idle(std::uint64_t used) const { return clock_ - used >= kIdle; }

 private:
  static constexpr std::int64_t kEnough = 8;
  static constexpr std::uint64_t kIdle = 1024;
  static constexpr std::size_t kMostMarks = 4096;

  std::uint64_t clock_ = kIdle;
  std::uint64_t paused_until_ = 0;
  std::unordered_map<std::uint64_t, std::int64_t> searches_;
};

inline bool LinkDemand::note(std::uint64_t mark, std::uint64_t searches) {
  if (is_paused()) return false;
  // What was asked for long ago and rarely is forgotten with the rest: what is asked for often comes back at once.
  if (searches_.size() >= kMostMarks) searches_.clear();
  std::int64_t& seen = searches_[mark];
  seen += static_cast<std::int64_t>(searches);
  return seen >= kEnough;
}

}  // namespace vecdb
