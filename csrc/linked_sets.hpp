// The links of one field: which tags, tags together, windows of columns and cells of geo columns have them, who asked, and what of them is
// still to be done in the background.
//
// Invariant: every live row that has what a linked key says is in the key's set, as a node or pending, so that a search through a cover
// misses none. Thread rule: join, leave and drop need the state lock exclusively; covers, missing and the answers of KeyRows need its
// shared side; everything else is thread-safe and must be called without that lock. The state lock is taken before mutex_.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "calibration.hpp"
#include "condition.hpp"
#include "fair_mutex.hpp"
#include "link_demand.hpp"
#include "link_key.hpp"
#include "linked_set.hpp"
#include "tags.hpp"
#include "types.hpp"

namespace vecdb {

// Which rows of a field belong to a key.
class KeyRows {
 public:
  virtual ~KeyRows() = default;
  virtual FairSharedMutex& state() const = 0;
  // Thread-safe.
  virtual GraphProfile profile() const = 0;
  // The rest REQUIRES state(). Live rows, ascending.
  virtual std::vector<Row> rows_with(const LinkKey& key) const = 0;
  virtual std::uint64_t live_rows() const = 0;
  virtual std::optional<Row> row_of(Offset offset) const = 0;
};

// Sets of which every match is in at least one.
struct LinkCover {
  std::vector<LinkKey> keys;
  std::vector<LinkedSet::View> sets;
};

// What is missing for a cover.
struct MissingLinks {
  struct Key {
    LinkKey key;
    std::uint64_t mark;  // by which searches for it are counted
    std::uint64_t members;
  };
  LinkCover rest;
  std::vector<Key> keys;
  // Somebody wants links of that column: any gain is enough, and, of what others can share, one search.
  bool is_asked = false;
  bool at_once = false;
  LinkDemand::Merit merit = LinkDemand::Merit::best;
};

struct LinkFigures {
  std::uint64_t sets = 0;
  std::uint64_t members = 0;
  std::uint64_t bytes = 0;
};

class LinkedSets {
 public:
  LinkedSets(const Vectors& vectors, const GraphOptions& base, const KeyRows& rows);

  // What offsets lose | get: tags, sorted, before tags gets them; entries of one column.
  void leave(const std::vector<TagEntry>& removed);
  void join(const std::vector<TagEntry>& added, const Tags& tags);
  void leave(std::uint32_t column, const std::vector<ColumnEntry>& removed);
  void join(std::uint32_t column, const std::vector<ColumnEntry>& added);
  void leave(std::uint32_t column, const std::vector<GeoEntry>& removed);
  void join(std::uint32_t column, const std::vector<GeoEntry>& added);
  void drop_tag(Tag tag);
  void drop_column(std::uint32_t column);
  void count_burial() { churn_.fetch_add(1, std::memory_order_relaxed); }

  // Give these tags links once they have enough members; m 0: as automatic ones. Throws Error invalid_argument for an m that is none.
  void ask(const Tag* tags, std::uint64_t count, std::uint32_t m);
  void unlink(const Tag* tags, std::uint64_t count);
  // Give links to the shared windows or cells of this column as soon as a search would gain by them.
  void ask_column(std::uint32_t column, std::uint32_t m);
  void unlink_column(std::uint32_t column);

  // The ways through links that the program allows.
  std::vector<LinkCover> covers(const Program& program, const Tags& tags) const;
  // Those that it would allow, had more of them links.
  std::vector<MissingLinks> missing(const Program& program, const Attributes& attributes) const;
  // So many queries went through this cover.
  void note_use(const LinkCover& cover, std::uint64_t searches);
  // So many would have gained by these, the best first. True when there is new work in the background.
  bool note_miss(const std::vector<MissingLinks>& missing, std::uint64_t searches);

  // What waits, in members; a set to be made counts as many as make a thread worth while.
  Row waiting() const;
  Row unclaimed() const;
  // Do the next piece; false when there was none to begin with.
  bool advance(const std::atomic<bool>& stop);

  LinkFigures figures() const;

 private:
  struct Slot {
    std::shared_ptr<LinkedSet> now;
    std::shared_ptr<LinkedSet> next;  // replaces now when it is linked; nullptr when nothing is wrong with now
    bool is_asked = false;
    LinkUse use;
    std::uint64_t churn_at_check = 0;  // churn_ when its members were counted
  };
  struct Wanted {
    std::uint64_t mark;
    std::uint64_t members;
    double share = 0;  // of all searches, as LinkDemand has it
  };
  struct Asked {
    std::uint32_t m;
    std::uint32_t declined = 0;  // the tag's members when links were not worth it
  };

  template <class Entry>
  void leave_areas(std::uint32_t column, const std::vector<Entry>& removed);
  template <class Entry>
  void join_areas(std::uint32_t column, const std::vector<Entry>& added);
  static void join(Slot& slot, const std::vector<Row>& rows);
  void join_joint(const std::vector<TagEntry>& added, const Tags& tags);
  template <class Use>
  void for_joint(Use&& use);
  template <class Use>
  void for_areas(std::uint32_t column, Use&& use);
  void drop(const LinkKey& key);
  void want(const LinkKey& key, const Wanted& wanted);
  // Whether walks over so many would save little beside the base graph.
  static bool is_most(std::uint64_t members, std::uint64_t live) { return static_cast<double>(members) > 0.6 * static_cast<double>(live); }
  bool is_served(const LinkKey& narrow, std::uint64_t members) const;
  bool is_on_the_way(const LinkKey& key) const;
  std::uint64_t members_of(const LinkKey& key, const Attributes& attributes) const;
  void find_missing(const LinkKey& narrow, const Attributes& attributes, std::vector<MissingLinks>& missing) const;
  std::uint64_t waiting_sets() const;
  bool needs_care(const Slot& slot) const;
  bool make_next();
  void make(const LinkKey& key, const Wanted& wanted, const GraphProfile& profile);
  std::uint32_t column_m(const LinkKey& key) const;
  bool make_room(std::uint64_t bytes, std::uint64_t members, std::uint64_t live, double share);
  bool look_after_one();
  void look_after(const LinkKey& key);
  bool link_one(const std::atomic<bool>& stop);
  bool measure_one(const std::atomic<bool>& stop);
  std::shared_ptr<LinkedSet> new_set(const LinkKey& key, std::uint32_t m) const;
  bool is_worth(std::uint64_t members, std::uint64_t live, const GraphProfile& profile) const;

  const Vectors& vectors_;
  const GraphOptions base_;
  const KeyRows& rows_;
  std::atomic<std::uint64_t> churn_{0};  // rows that died or left a set

  mutable std::mutex mutex_;  // guards what follows
  std::map<LinkKey, Slot> slots_;
  std::unordered_map<Tag, Asked> asked_;
  std::unordered_map<std::uint32_t, std::uint32_t> asked_columns_;  // with their m
  std::deque<LinkKey> queue_;                                       // of wanted keys, and of some that are wanted no more
  std::map<LinkKey, Wanted> wanted_;                                // to be looked at by a worker
  Row making_ = 0;                                                  // taken from wanted_, not in slots_ yet
  LinkDemand demand_;
  mutable std::unordered_map<std::uint64_t, std::uint64_t> counted_;  // how many have several tags, and about how many are in cells, by
                                                                      // mark, since points or tags were added last
};

}  // namespace vecdb
