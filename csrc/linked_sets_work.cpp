// What is done for the sets in the background: they are made, their members linked, those full of rows that are members no more made anew.

#include <algorithm>
#include <shared_mutex>
#include <utility>

#include "link_measure.hpp"
#include "link_plan.hpp"
#include "linked_sets.hpp"

namespace vecdb {

namespace {

// Links of automatic sets take at most this much memory a live point, all together, and a point is a member of so many of them on average:
// a member takes a quarter of the time that a point takes in the graph of all.
constexpr double kBudgetBytes = 256;
constexpr double kBudgetMembers = 2.1;
constexpr std::uint32_t kAutomaticM = 16;
// Members are fewer and nearer to each other than rows of the whole field, and how far to look is measured of each set: a beam of 100 makes
// links of 20 % of glove100 at twice the time, and searches through them no faster.
constexpr std::uint32_t kMostBeam = 40;

// A new set is as much work as makes a thread worth while.
constexpr Row kNewSet = 256;
// A set is counted when more rows than this share of it have left any set, and made anew when more of its own have.
constexpr std::uint64_t kCheckedShare = 5;
constexpr std::uint64_t kRebuiltShare = 4;

// Of a member, beside its list: its row, its levels, what is known of it.
constexpr std::uint64_t kOtherBytes = 24;

// A set that is in use leaves only for one whose bytes serve so many times as many searches: two of a kind never push each other out.
constexpr double kClearlyBetter = 2;

// The planner asks for k = 10, as most searches do.
constexpr std::uint32_t kUsualK = 10;

std::uint64_t expected_bytes(std::uint64_t members, std::uint32_t m) {
  const std::uint64_t room = LinkedSet::room_for(members);
  return room * LinkLists::bytes_of_list(m, room) + members * kOtherBytes;
}

// Of a set that may not be linked yet.
std::uint64_t settled_bytes(const LinkedSet& set) { return std::max(set.bytes(), expected_bytes(set.joined(), set.options().m)); }

}  // namespace

std::shared_ptr<LinkedSet> LinkedSets::new_set(const LinkKey& key, std::uint32_t m) const {
  const std::uint32_t beam = std::max(m, std::min(base_.ef_construction, kMostBeam));
  return std::make_shared<LinkedSet>(vectors_, GraphOptions{m, beam, base_.seed ^ key.mark()});
}

bool LinkedSets::is_worth(std::uint64_t members, std::uint64_t live, const GraphProfile& profile) const {
  if (members == 0 || is_most(members, live)) return false;
  Workload workload;
  workload.dim = vectors_.dim();
  workload.rows = static_cast<Row>(live);
  workload.indexed = workload.nodes = static_cast<Row>(live);
  workload.total = live;
  workload.cardinality = members;
  workload.k = kUsualK;
  workload.profile = profile;
  return better_plan(choose_plan(workload), link_cost(workload, {{members}, 0})).strategy == Strategy::tag;
}

// REQUIRES mutex_. Sets are made when it is known what a walk costs.
std::uint64_t LinkedSets::waiting_sets() const {
  if (wanted_.empty()) return 0;
  return rows_.profile().is_known() ? wanted_.size() : 0;
}

// REQUIRES mutex_.
bool LinkedSets::needs_care(const Slot& slot) const {
  if (slot.next != nullptr) return slot.next->pending() == 0;
  return (churn_.load(std::memory_order_relaxed) - slot.churn_at_check) * kCheckedShare > slot.now->joined();
}

Row LinkedSets::unclaimed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t total = waiting_sets() * kNewSet;
  for (const auto& [key, slot] : slots_) {
    if (needs_care(slot) || slot.now->is_measuring_due()) total += kNewSet;
    total += slot.now->unclaimed() + (slot.next == nullptr ? 0 : slot.next->unclaimed());
  }
  return static_cast<Row>(std::min<std::uint64_t>(total, UINT32_MAX));
}

Row LinkedSets::waiting() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t total = making_ + waiting_sets() * kNewSet;
  for (const auto& [key, slot] : slots_) {
    if (needs_care(slot) || slot.now->is_unmeasured()) total += kNewSet;
    total += slot.now->pending() + (slot.next == nullptr ? 0 : slot.next->pending());
  }
  return static_cast<Row>(std::min<std::uint64_t>(total, UINT32_MAX));
}

bool LinkedSets::advance(const std::atomic<bool>& stop) { return make_next() || link_one(stop) || measure_one(stop) || look_after_one(); }

bool LinkedSets::make_next() {
  const GraphProfile profile = rows_.profile();
  if (!profile.is_known()) return false;
  std::optional<LinkKey> key;
  Wanted wanted{};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!queue_.empty() && wanted_.count(queue_.front()) == 0) queue_.pop_front();
    if (queue_.empty()) return false;
    key = queue_.front();
    queue_.pop_front();
    const auto found = wanted_.find(*key);
    wanted = found->second;
    wanted_.erase(found);
    ++making_;
  }
  try {
    make(*key, wanted, profile);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    --making_;
    throw;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  --making_;
  return true;
}

void LinkedSets::make(const LinkKey& key, const Wanted& wanted, const GraphProfile& profile) {
  // No change comes between the look at who is a member and the moment from which changes reach the set.
  const std::shared_lock<FairSharedMutex> state(rows_.state());
  const std::vector<Row> members = rows_.rows_with(key);
  const std::uint64_t live = rows_.live_rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.count(key) != 0) return;
  const auto asked = key.tag() == nullptr ? asked_.end() : asked_.find(*key.tag());
  const bool is_asked = asked != asked_.end();
  if (!is_worth(members.size(), live, profile)) {
    if (is_asked) asked->second.declined = static_cast<std::uint32_t>(members.size());
    demand_.decline(wanted.mark);
    return;
  }
  const std::uint32_t asked_m = is_asked ? asked->second.m : column_m(key);
  const std::uint32_t m = asked_m != 0 ? asked_m : kAutomaticM;
  if (!is_asked && !make_room(expected_bytes(members.size(), m), members.size(), live, wanted.share)) {
    demand_.postpone(wanted.mark);
    return;
  }
  Slot slot;
  slot.now = new_set(key, m);
  slot.now->join(members);
  slot.is_asked = is_asked;
  slot.use = demand_.first_use(wanted.share);
  slot.churn_at_check = churn_.load(std::memory_order_relaxed);
  slots_.emplace(key, std::move(slot));
}

// What was asked for a column, 0 when nothing was. REQUIRES mutex_.
std::uint32_t LinkedSets::column_m(const LinkKey& key) const {
  for (const auto& [column, m] : asked_columns_) {
    if (key.is_of_column(column)) return m;
  }
  return 0;
}

// REQUIRES mutex_. Lets automatic sets go until there is room for another of these bytes and members, which this share of all searches
// would use: the idle ones first, least recently used before others; then those that are used, when a byte of the new one would be of use
// to many more searches. None when that would not be enough.
bool LinkedSets::make_room(std::uint64_t bytes, std::uint64_t members, std::uint64_t live, double share) {
  struct Candidate {
    bool is_used;
    double rank;  // when it was used, or how many searches use a byte of it
    std::uint64_t bytes;
    std::uint64_t members;
    LinkKey key;
  };
  const double merit = share / static_cast<double>(bytes);
  std::uint64_t used_bytes = bytes;
  std::uint64_t used_members = members;
  std::vector<Candidate> candidates;
  for (const auto& [key, slot] : slots_) {
    if (slot.is_asked) continue;
    const std::uint64_t own = settled_bytes(*slot.now);
    used_bytes += own;
    used_members += slot.now->joined();
    const double own_merit = demand_.share(slot.use) / static_cast<double>(own);
    if (demand_.is_idle(slot.use)) {
      candidates.push_back({false, static_cast<double>(slot.use.last), own, slot.now->joined(), key});
    } else if (kClearlyBetter * own_merit < merit) {
      candidates.push_back({true, own_merit, own, slot.now->joined(), key});
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& one, const Candidate& other) {
    return one.is_used != other.is_used ? other.is_used : one.rank < other.rank;
  });
  std::size_t gone = 0;
  const auto is_too_much = [&] {
    const auto points = static_cast<double>(live);
    return static_cast<double>(used_bytes) > kBudgetBytes * points || static_cast<double>(used_members) > kBudgetMembers * points;
  };
  for (; is_too_much() && gone < candidates.size(); ++gone) {
    used_bytes -= candidates[gone].bytes;
    used_members -= candidates[gone].members;
  }
  if (is_too_much()) return false;
  for (std::size_t i = 0; i < gone; ++i) slots_.erase(candidates[i].key);
  return true;
}

bool LinkedSets::link_one(const std::atomic<bool>& stop) {
  std::shared_ptr<LinkedSet> longest;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Row most = 0;
    for (const auto& [key, slot] : slots_) {
      for (const std::shared_ptr<LinkedSet>* set : {&slot.now, &slot.next}) {
        if (*set == nullptr || (*set)->unclaimed() <= most) continue;
        most = (*set)->unclaimed();
        longest = *set;
      }
    }
  }
  return longest != nullptr && longest->advance(stop) > 0;
}

bool LinkedSets::measure_one(const std::atomic<bool>& stop) {
  const GraphProfile profile = rows_.profile();
  if (!profile.is_known()) return false;
  std::shared_ptr<LinkedSet> due;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, slot] : slots_) {
      if (slot.now->is_measuring_due()) due = slot.now;
    }
  }
  if (due == nullptr || !due->claim_measuring()) return false;
  const LinkedSet::View view = LinkedSet::view(due);
  try {
    due->settle_breadth(measure_links(view, vectors_, vectors_.rows(), profile, stop), view.linked);
  } catch (...) {
    due->settle_breadth(std::nullopt, 0);
    throw;
  }
  return true;
}

// Replaces one set that is wholly linked anew, or counts the members of one that may be full of others.
bool LinkedSets::look_after_one() {
  std::optional<LinkKey> doubtful;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [key, slot] : slots_) {
      if (!needs_care(slot)) continue;
      if (slot.next != nullptr) {
        slot.now = std::exchange(slot.next, nullptr);
        return true;
      }
      doubtful = key;
    }
  }
  if (!doubtful) return false;
  look_after(*doubtful);
  return true;
}

void LinkedSets::look_after(const LinkKey& key) {
  const GraphProfile profile = rows_.profile();
  const std::shared_lock<FairSharedMutex> state(rows_.state());
  const std::vector<Row> members = rows_.rows_with(key);
  const std::uint64_t live = rows_.live_rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = slots_.find(key);
  if (found == slots_.end()) return;
  Slot& slot = found->second;
  slot.churn_at_check = churn_.load(std::memory_order_relaxed);
  const std::uint64_t joined = slot.now->joined();
  if (slot.next != nullptr || (joined - members.size()) * kRebuiltShare <= joined) return;
  if (!is_worth(members.size(), live, profile)) {
    const auto asked = key.tag() == nullptr ? asked_.end() : asked_.find(*key.tag());
    if (asked != asked_.end()) asked->second.declined = static_cast<std::uint32_t>(members.size());
    slots_.erase(found);
    demand_.resume();
    return;
  }
  slot.next = new_set(key, slot.now->options().m);
  slot.next->join(members);
}

}  // namespace vecdb
