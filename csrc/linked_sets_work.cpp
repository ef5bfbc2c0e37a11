// What is done for the sets in the background: they are made, their members linked, those full of rows that are members no more made anew.

#include <algorithm>
#include <shared_mutex>
#include <utility>

#include "link_plan.hpp"
#include "linked_sets.hpp"

namespace vecdb {

namespace {

// Links of automatic sets take at most this much memory a live point, all together.
constexpr std::uint64_t kBudgetBytes = 256;
constexpr std::uint32_t kAutomaticM = 16;
// Members are fewer and nearer to each other than rows of the whole field: a narrower beam than the base graph's finds as much.
constexpr std::uint32_t kMostBeam = 100;

// A new set is as much work as makes a thread worth while.
constexpr Row kNewSet = 256;
// A set is counted when more rows than this share of it have left any set, and made anew when more of its own have.
constexpr std::uint64_t kCheckedShare = 5;
constexpr std::uint64_t kRebuiltShare = 4;

// The planner asks for k = 10, as most searches do.
constexpr std::uint32_t kUsualK = 10;

// Walks over more would save little beside the base graph.
constexpr double kMostShare = 0.6;

std::uint64_t expected_bytes(std::uint64_t members, std::uint32_t m) { return members * (2 * std::uint64_t{m} * sizeof(Node) + 40); }

// Of a set that may not be linked yet.
std::uint64_t settled_bytes(const LinkedSet& set) { return std::max(set.bytes(), expected_bytes(set.joined(), set.options().m)); }

}  // namespace

std::shared_ptr<LinkedSet> LinkedSets::new_set(Tag tag, std::uint32_t m) const {
  const std::uint32_t beam = std::max(m, std::min(base_.ef_construction, kMostBeam));
  return std::make_shared<LinkedSet>(vectors_, GraphOptions{m, beam, base_.seed ^ tag});
}

bool LinkedSets::is_worth(std::uint64_t members, std::uint64_t live, const GraphProfile& profile) const {
  if (members == 0 || static_cast<double>(members) > kMostShare * static_cast<double>(live)) return false;
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
  if (slot.next.set != nullptr) return slot.next.set->pending() == 0;
  return (churn_.load(std::memory_order_relaxed) - slot.churn_at_check) * kCheckedShare > slot.now.set->joined();
}

Row LinkedSets::unclaimed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t total = waiting_sets() * kNewSet;
  for (const auto& [tag, slot] : slots_) {
    if (needs_care(slot)) total += kNewSet;
    total += slot.now.set->unclaimed() + (slot.next.set == nullptr ? 0 : slot.next.set->unclaimed());
  }
  return static_cast<Row>(std::min<std::uint64_t>(total, UINT32_MAX));
}

Row LinkedSets::waiting() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t total = making_ + waiting_sets() * kNewSet;
  for (const auto& [tag, slot] : slots_) {
    if (needs_care(slot)) total += kNewSet;
    total += slot.now.set->pending() + (slot.next.set == nullptr ? 0 : slot.next.set->pending());
  }
  return static_cast<Row>(std::min<std::uint64_t>(total, UINT32_MAX));
}

bool LinkedSets::advance(const std::atomic<bool>& stop) { return make_next() || link_one(stop) || look_after_one(); }

bool LinkedSets::make_next() {
  const GraphProfile profile = rows_.profile();
  if (!profile.is_known()) return false;
  Tag tag = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!queue_.empty() && wanted_.count(queue_.front()) == 0) queue_.pop_front();
    if (queue_.empty()) return false;
    tag = queue_.front();
    queue_.pop_front();
    wanted_.erase(tag);
    ++making_;
  }
  try {
    make(tag, profile);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    --making_;
    throw;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  --making_;
  return true;
}

void LinkedSets::make(Tag tag, const GraphProfile& profile) {
  // No change comes between the look at who is a member and the moment from which changes reach the set.
  const std::shared_lock<FairSharedMutex> state(rows_.state());
  const std::vector<Row> members = rows_.rows_with(tag);
  const std::uint64_t live = rows_.live_rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.count(tag) != 0) return;
  const auto asked = asked_.find(tag);
  const bool is_asked = asked != asked_.end();
  if (!is_worth(members.size(), live, profile)) {
    if (is_asked) asked->second.declined = static_cast<std::uint32_t>(members.size());
    demand_.decline(tag);
    return;
  }
  const std::uint32_t m = is_asked && asked->second.m != 0 ? asked->second.m : kAutomaticM;
  if (!is_asked && !make_room(expected_bytes(members.size(), m), kBudgetBytes * live)) {
    demand_.pause();
    return;
  }
  Slot slot;
  slot.now.set = new_set(tag, m);
  slot.now.set->join(members);
  slot.is_asked = is_asked;
  slot.used = demand_.now();
  slot.churn_at_check = churn_.load(std::memory_order_relaxed);
  slots_.emplace(tag, std::move(slot));
}

// REQUIRES mutex_. Lets automatic sets go, least recently used first, until there is room for another of these bytes.
bool LinkedSets::make_room(std::uint64_t bytes, std::uint64_t budget) {
  std::uint64_t used = bytes;
  std::vector<std::pair<std::uint64_t, Tag>> idle;
  for (const auto& [tag, slot] : slots_) {
    if (slot.is_asked) continue;
    used += settled_bytes(*slot.now.set);
    if (demand_.is_idle(slot.used)) idle.emplace_back(slot.used, tag);
  }
  std::sort(idle.begin(), idle.end());
  std::size_t gone = 0;
  while (used > budget && gone < idle.size()) used -= settled_bytes(*slots_.at(idle[gone++].second).now.set);
  if (used > budget) return false;
  for (std::size_t i = 0; i < gone; ++i) slots_.erase(idle[i].second);
  return true;
}

bool LinkedSets::link_one(const std::atomic<bool>& stop) {
  std::shared_ptr<LinkedSet> longest;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Row most = 0;
    for (const auto& [tag, slot] : slots_) {
      for (const Members* members : {&slot.now, &slot.next}) {
        if (members->set == nullptr || members->set->unclaimed() <= most) continue;
        most = members->set->unclaimed();
        longest = members->set;
      }
    }
  }
  return longest != nullptr && longest->advance(stop) > 0;
}

// Replaces one set that is wholly linked anew, or counts the members of one that may be full of others.
bool LinkedSets::look_after_one() {
  std::optional<Tag> doubtful;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [tag, slot] : slots_) {
      if (!needs_care(slot)) continue;
      if (slot.next.set != nullptr) {
        slot.now = std::move(slot.next);
        slot.next = {};
        return true;
      }
      doubtful = tag;
    }
  }
  if (!doubtful) return false;
  look_after(*doubtful);
  return true;
}

void LinkedSets::look_after(Tag tag) {
  const GraphProfile profile = rows_.profile();
  const std::shared_lock<FairSharedMutex> state(rows_.state());
  const std::vector<Row> members = rows_.rows_with(tag);
  const std::uint64_t live = rows_.live_rows();
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = slots_.find(tag);
  if (found == slots_.end()) return;
  Slot& slot = found->second;
  slot.churn_at_check = churn_.load(std::memory_order_relaxed);
  const std::uint64_t joined = slot.now.set->joined();
  if (slot.next.set != nullptr || (joined - members.size()) * kRebuiltShare <= joined) return;
  if (!is_worth(members.size(), live, profile)) {
    const auto asked = asked_.find(tag);
    if (asked != asked_.end()) asked->second.declined = static_cast<std::uint32_t>(members.size());
    slots_.erase(found);
    return;
  }
  slot.next.set = new_set(tag, slot.now.set->options().m);
  slot.next.set->join(members);
}

}  // namespace vecdb
