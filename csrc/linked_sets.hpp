// The links of tags in one field: which tags have them, who asked, and what of them is still to be done in the background.
//
// Invariant: every live row that has a linked tag is in the tag's set, as a node or pending, so that a search through a cover misses none.
// Thread rule: join, leave and drop need the state lock exclusively; covers and the answers of TagRows need its shared side; everything
// else is thread-safe and must be called without that lock. The state lock is taken before mutex_.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "calibration.hpp"
#include "condition.hpp"
#include "fair_mutex.hpp"
#include "link_demand.hpp"
#include "linked_set.hpp"
#include "tags.hpp"
#include "types.hpp"

namespace vecdb {

// Which rows of a field have a tag: what makes a row a member.
class TagRows {
 public:
  virtual ~TagRows() = default;
  virtual FairSharedMutex& state() const = 0;
  // Thread-safe.
  virtual GraphProfile profile() const = 0;
  // The rest REQUIRES state(). Live rows, ascending.
  virtual std::vector<Row> rows_with(Tag tag) const = 0;
  virtual std::uint64_t live_rows() const = 0;
  virtual std::optional<Row> row_of(Offset offset) const = 0;
};

// Sets of which every match is in at least one; what is missing to use it, when some tag has no links.
struct LinkCover {
  struct Missing {
    Tag tag;
    std::uint32_t members;
  };
  std::vector<Tag> tags;
  std::vector<LinkedSet::View> sets;
  std::vector<Missing> missing;
};

struct LinkFigures {
  std::uint64_t sets = 0;
  std::uint64_t members = 0;
  std::uint64_t bytes = 0;
};

class LinkedSets {
 public:
  LinkedSets(const Vectors& vectors, const GraphOptions& base, const TagRows& rows);

  // Entries sorted by tag; called before tags loses | gets them.
  void leave(const std::vector<TagEntry>& removed, const Tags& tags);
  void join(const std::vector<TagEntry>& added, const Tags& tags);
  void drop(Tag tag);
  void count_burial() { churn_.fetch_add(1, std::memory_order_relaxed); }

  // Give these tags links once they have enough members; m 0: as automatic ones. Throws Error invalid_argument for an m that is none.
  void ask(const Tag* tags, std::uint64_t count, std::uint32_t m);
  void unlink(const Tag* tags, std::uint64_t count);

  // The ways through links that the program allows.
  std::vector<LinkCover> covers(const Program& program, const Tags& tags) const;
  // So many queries went through this cover.
  void note_use(const LinkCover& cover, std::uint64_t searches);
  // So many would have been clearly quicker through this one. True when there is new work in the background.
  bool note_miss(const LinkCover& cover, std::uint64_t searches);

  // What waits, in members; a set to be made counts as many as make a thread worth while.
  Row waiting() const;
  Row unclaimed() const;
  // Do the next piece; false when there was none to begin with.
  bool advance(const std::atomic<bool>& stop);

  LinkFigures figures() const;

 private:
  struct Members {
    std::shared_ptr<LinkedSet> set;
    std::unordered_set<Row> lost;  // members that have lost the tag
  };
  struct Slot {
    Members now;
    Members next;  // replaces now when it is linked; its set is nullptr when nothing is wrong with now
    bool is_asked = false;
    std::uint64_t used = 0;            // by demand_'s clock
    std::uint64_t churn_at_check = 0;  // churn_ when its members were counted
  };
  struct Asked {
    std::uint32_t m;
    std::uint32_t declined = 0;  // the tag's members when links were not worth it
  };

  static void join(Members& members, const std::vector<Row>& rows);
  void want(Tag tag);
  std::uint64_t waiting_sets() const;
  bool needs_care(const Slot& slot) const;
  bool make_next();
  void make(Tag tag, const GraphProfile& profile);
  bool make_room(std::uint64_t bytes, std::uint64_t budget);
  bool look_after_one();
  void look_after(Tag tag);
  bool link_one(const std::atomic<bool>& stop);
  std::shared_ptr<LinkedSet> new_set(Tag tag, std::uint32_t m) const;
  bool is_worth(std::uint64_t members, std::uint64_t live, const GraphProfile& profile) const;

  const Vectors& vectors_;
  const GraphOptions base_;
  const TagRows& rows_;
  std::atomic<std::uint64_t> churn_{0};  // rows that died or lost a tag

  mutable std::mutex mutex_;  // guards what follows
  std::unordered_map<Tag, Slot> slots_;
  std::unordered_map<Tag, Asked> asked_;
  std::deque<Tag> queue_;           // of wanted tags, and of some that are wanted no more
  std::unordered_set<Tag> wanted_;  // to be looked at by a worker
  Row making_ = 0;                  // taken from wanted_, not in slots_ yet
  LinkDemand demand_;
};

}  // namespace vecdb
