// What changes and callers do to the sets; what searches find in them is in linked_covers.cpp, and what takes long in linked_sets_work.cpp.

#include "linked_sets.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "error.hpp"

namespace vecdb {

namespace {

// Calls visit(tag, first, last) for the entries of each tag.
template <class Visit>
void by_tag(const std::vector<TagEntry>& entries, Visit&& visit) {
  for (auto first = entries.begin(); first != entries.end();) {
    auto last = first;
    while (last != entries.end() && last->tag == first->tag) ++last;
    visit(first->tag, first, last);
    first = last;
  }
}

}  // namespace

LinkedSets::LinkedSets(const Vectors& vectors, const GraphOptions& base, const KeyRows& rows)
    : vectors_(vectors), base_(base), rows_(rows) {}

// Calls use(tags, slot) for the sets of several tags. REQUIRES mutex_.
template <class Use>
void LinkedSets::for_joint(Use&& use) {
  for (auto slot = slots_.lower_bound(LinkTags{}); slot != slots_.end() && slot->first.tags() != nullptr; ++slot) {
    use(*slot->first.tags(), slot->second);
  }
}

// Calls use(key, slot) for the windows and cells of a column. REQUIRES mutex_.
template <class Use>
void LinkedSets::for_areas(std::uint32_t column, Use&& use) {
  for (auto slot = slots_.lower_bound(LinkWindow{0, {}}); slot != slots_.end(); ++slot) {
    if (slot->first.is_of_column(column)) use(slot->first, slot->second);
  }
}

void LinkedSets::join(Slot& slot, const std::vector<Row>& rows) {
  slot.now->join(rows);
  if (slot.next != nullptr) slot.next->join(rows);
}

void LinkedSets::leave(const std::vector<TagEntry>& removed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty()) return;
  const auto is_linked = [&](Tag tag) {
    bool is_in_set = slots_.count(tag) != 0;
    for_joint([&](const LinkTags& joint, Slot&) { is_in_set = is_in_set || joint.has(tag); });
    return is_in_set;
  };
  by_tag(removed, [&](Tag tag, auto first, auto last) {
    if (is_linked(tag)) churn_.fetch_add(static_cast<std::uint64_t>(last - first), std::memory_order_relaxed);
  });
}

void LinkedSets::join(const std::vector<TagEntry>& added, const Tags& tags) {
  const std::lock_guard<std::mutex> lock(mutex_);
  counted_.clear();
  if (slots_.empty() && asked_.empty()) return;
  join_joint(added, tags);
  std::vector<Row> rows;
  by_tag(added, [&](Tag tag, auto first, auto last) {
    const auto found = slots_.find(tag);
    if (found == slots_.end()) {
      const Posting* const posting = tags.find(tag);
      const auto asked = asked_.find(tag);
      const auto members = static_cast<std::uint64_t>(last - first) + (posting == nullptr ? 0 : posting->count());
      if (asked != asked_.end() && members > std::uint64_t{asked->second.declined} * 5 / 4) want(tag, {LinkKey(tag).mark(), members});
      return;
    }
    rows.clear();
    for (; first != last; ++first) {
      if (const std::optional<Row> row = rows_.row_of(first->offset)) rows.push_back(*row);
    }
    join(found->second, rows);
  });
}

// A row joins when it has all tags: those that it had are in tags, those that it gets in added. REQUIRES mutex_.
void LinkedSets::join_joint(const std::vector<TagEntry>& added, const Tags& tags) {
  const auto has = [&](Tag tag, Offset offset) {
    const Posting* const posting = tags.find(tag);
    return (posting != nullptr && posting->contains(offset)) || std::binary_search(added.begin(), added.end(), TagEntry{tag, offset});
  };
  std::vector<Row> rows;
  for_joint([&](const LinkTags& joint, Slot& slot) {
    rows.clear();
    for (const Tag tag : joint.tags) {
      for (auto entry = std::lower_bound(added.begin(), added.end(), TagEntry{tag, 0}); entry != added.end() && entry->tag == tag;
           ++entry) {
        const auto has_it = [&](Tag other) { return other == tag || has(other, entry->offset); };
        if (!std::all_of(joint.tags.begin(), joint.tags.end(), has_it)) continue;
        if (const std::optional<Row> row = rows_.row_of(entry->offset)) rows.push_back(*row);
      }
    }
    std::sort(rows.begin(), rows.end());
    join(slot, rows);
  });
}

namespace {

bool has(const LinkKey& key, const ColumnEntry& entry) { return key.window() != nullptr && key.window()->has(entry); }
bool has(const LinkKey& key, const GeoEntry& entry) { return key.cell() != nullptr && key.cell()->has(entry); }

}  // namespace

template <class Entry>
void LinkedSets::leave_areas(std::uint32_t column, const std::vector<Entry>& removed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for_areas(column, [&](const LinkKey& key, Slot&) {
    const auto left = std::count_if(removed.begin(), removed.end(), [&](const Entry& entry) { return has(key, entry); });
    churn_.fetch_add(static_cast<std::uint64_t>(left), std::memory_order_relaxed);
  });
}

template <class Entry>
void LinkedSets::join_areas(std::uint32_t column, const std::vector<Entry>& added) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Row> rows;
  for_areas(column, [&](const LinkKey& key, Slot& slot) {
    rows.clear();
    for (const Entry& entry : added) {
      if (!has(key, entry)) continue;
      if (const std::optional<Row> row = rows_.row_of(entry.offset)) rows.push_back(*row);
    }
    join(slot, rows);
  });
}

void LinkedSets::leave(std::uint32_t column, const std::vector<ColumnEntry>& removed) { leave_areas(column, removed); }
void LinkedSets::leave(std::uint32_t column, const std::vector<GeoEntry>& removed) { leave_areas(column, removed); }
void LinkedSets::join(std::uint32_t column, const std::vector<ColumnEntry>& added) { join_areas(column, added); }
void LinkedSets::join(std::uint32_t column, const std::vector<GeoEntry>& added) {
  join_areas(column, added);
  const std::lock_guard<std::mutex> lock(mutex_);
  counted_.clear();
}

// REQUIRES mutex_.
void LinkedSets::drop(const LinkKey& key) {
  if (slots_.erase(key) != 0) demand_.resume();
  wanted_.erase(key);
}

void LinkedSets::drop_tag(Tag tag) {
  const std::lock_guard<std::mutex> lock(mutex_);
  drop(tag);
  std::vector<LinkKey> gone;
  const auto add_joint = [&](const LinkKey& key) {
    if (key.tags() != nullptr && key.tags()->has(tag)) gone.push_back(key);
  };
  for (const auto& [key, slot] : slots_) add_joint(key);
  for (const auto& [key, wanted] : wanted_) add_joint(key);
  for (const LinkKey& key : gone) drop(key);
  asked_.erase(tag);
  demand_.forget(LinkKey(tag).mark());
}

void LinkedSets::drop_column(std::uint32_t column) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<LinkKey> gone;
  for_areas(column, [&](const LinkKey& key, Slot&) { gone.push_back(key); });
  for (const auto& [key, wanted] : wanted_) {
    if (key.is_of_column(column)) gone.push_back(key);
  }
  for (const LinkKey& key : gone) drop(key);
  asked_columns_.erase(column);
}

// REQUIRES mutex_.
void LinkedSets::want(const LinkKey& key, const Wanted& wanted) {
  if (wanted_.emplace(key, wanted).second) queue_.push_back(key);
}

namespace {

void check_m(std::uint32_t m) {
  if (m != 0 && (m < kMinM || m > kMaxM)) {
    throw Error(Code::invalid_argument,
                "m is " + std::to_string(m) + ", expected 0 or " + std::to_string(kMinM) + " to " + std::to_string(kMaxM));
  }
}

}  // namespace

void LinkedSets::ask(const Tag* tags, std::uint64_t count, std::uint32_t m) {
  check_m(m);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::uint64_t i = 0; i < count; ++i) {
    asked_[tags[i]] = {m, 0};
    const auto found = slots_.find(tags[i]);
    if (found == slots_.end()) {
      want(tags[i], {LinkKey(tags[i]).mark(), 0});
    } else {
      found->second.is_asked = true;
    }
  }
}

void LinkedSets::unlink(const Tag* tags, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) drop_tag(tags[i]);
}

void LinkedSets::ask_column(std::uint32_t column, std::uint32_t m) {
  check_m(m);
  const std::lock_guard<std::mutex> lock(mutex_);
  asked_columns_[column] = m;
}

void LinkedSets::unlink_column(std::uint32_t column) { drop_column(column); }

LinkFigures LinkedSets::figures() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  LinkFigures figures;
  for (const auto& [key, slot] : slots_) {
    ++figures.sets;
    figures.members += slot.now->joined();
    figures.bytes += slot.now->bytes() + (slot.next == nullptr ? 0 : slot.next->bytes());
  }
  return figures;
}

}  // namespace vecdb
