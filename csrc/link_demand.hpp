// What searches ask for often enough to deserve links of its own, counted in queries. A mark stands for a tag, several tags, a window or a
// cell.
//
// Thread rule: like a standard container.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>

namespace vecdb {

// How often a set of links is used; LinkDemand reckons with it.
struct LinkUse {
  std::uint64_t last = 0;   // by its clock
  std::uint64_t since = 0;  // likewise
  double searches = 0;      // since then
};

class LinkDemand {
 public:
  void tick(std::uint64_t searches) { clock_ += searches; }

  // What its links would be to searches: the best of all, or an eighth as good, as those of one tag beside those of all tags that they ask
  // for.
  enum class Merit { best, some };

  // These searches would have gained much by its links; true once enough of them have.
  bool note(std::uint64_t mark, std::uint64_t searches, Merit merit = Merit::best);
  // How many of all searches have asked for it since the first one did, 0 to 1; a few in a row are not taken for all there are.
  double share(std::uint64_t mark) const;
  void forget(std::uint64_t mark) { asked_.erase(mark); }
  // Its links were found not to pay: it takes many more searches to look again.
  void decline(std::uint64_t mark) { asked_[mark] = {-static_cast<std::int64_t>(kIdle) * kUnits, clock_}; }
  // Somebody asked for them, so that the next search is enough, unless they were declined.
  void hasten(std::uint64_t mark) {
    Asked& asked = asked_.try_emplace(mark, Asked{0, clock_}).first->second;
    if (asked.units >= 0) asked.units = kEnough;
  }

  // There was no room for its links: they are not wanted for a while.
  void postpone(std::uint64_t mark) { asked_[mark] = {0, clock_ + kIdle}; }
  // There is room again.
  void resume() {
    for (auto& [mark, asked] : asked_) asked.since = std::min(asked.since, clock_);
  }
  // Of a new set that this share of all searches asked for.
  LinkUse first_use(double share) const { return {clock_, clock_ - kIdle, share * static_cast<double>(kIdle)}; }
  void note_use(LinkUse& use, std::uint64_t searches) const;
  // The share of all searches that used it lately.
  double share(const LinkUse& use) const { return use.searches / static_cast<double>(std::max<std::uint64_t>(1, clock_ - use.since)); }
  // Whether a set may leave for another, however little that one is asked for: tags that take turns must not push each other out.
  bool is_idle(const LinkUse& use) const { return clock_ - use.last >= kIdle; }

 private:
  struct Asked {
    std::int64_t units;
    std::uint64_t since;  // by clock_; when it may be wanted, while it is postponed
  };

  static constexpr std::int64_t kUnits = 8;  // of a search
  static constexpr std::int64_t kEnough = 8 * kUnits;
  static constexpr std::uint64_t kIdle = 1024;
  static constexpr std::uint64_t kRemembered = 4 * kIdle;
  static constexpr std::uint64_t kShortest = 128;  // that a share is taken of
  static constexpr std::size_t kMostMarks = 4096;

  std::uint64_t clock_ = kIdle;
  std::unordered_map<std::uint64_t, Asked> asked_;
};

inline bool LinkDemand::note(std::uint64_t mark, std::uint64_t searches, Merit merit) {
  // What was asked for long ago and rarely is forgotten with the rest: what is asked for often comes back at once.
  if (asked_.size() >= kMostMarks) asked_.clear();
  Asked& asked = asked_.try_emplace(mark, Asked{0, clock_ - std::min(clock_, searches)}).first->second;
  if (clock_ < asked.since) return false;
  asked.units += static_cast<std::int64_t>(searches) * (merit == Merit::best ? kUnits : 1);
  return asked.units >= kEnough;
}

// What is long ago counts half.
inline void LinkDemand::note_use(LinkUse& use, std::uint64_t searches) const {
  use.last = clock_;
  use.searches += static_cast<double>(searches);
  if (clock_ - use.since <= kRemembered) return;
  use.searches /= 2;
  use.since += (clock_ - use.since) / 2;
}

inline double LinkDemand::share(std::uint64_t mark) const {
  const auto asked = asked_.find(mark);
  if (asked == asked_.end() || asked->second.units <= 0) return 0;
  const auto searches = static_cast<double>(asked->second.units) / static_cast<double>(kUnits);
  return std::min(1.0, searches / static_cast<double>(std::max(kShortest, clock_ - asked->second.since)));
}

}  // namespace vecdb
