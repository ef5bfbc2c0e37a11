// Searches and changes meet the sets here; what takes long is in linked_sets_work.cpp.

#include "linked_sets.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "error.hpp"
#include "tag_links.hpp"

namespace vecdb {

namespace {

// A cover of more sets would cost more walks than it saves.
constexpr std::size_t kMostSets = 8;

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

LinkedSets::LinkedSets(const Vectors& vectors, const GraphOptions& base, const TagRows& rows)
    : vectors_(vectors), base_(base), rows_(rows) {}

void LinkedSets::leave(const std::vector<TagEntry>& removed, const Tags& tags) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty()) return;
  by_tag(removed, [&](Tag tag, auto first, auto last) {
    const auto found = slots_.find(tag);
    const Posting* const posting = tags.find(tag);
    if (found == slots_.end() || posting == nullptr) return;
    for (; first != last; ++first) {
      const std::optional<Row> row = posting->contains(first->offset) ? rows_.row_of(first->offset) : std::nullopt;
      if (!row) continue;
      found->second.now.lost.insert(*row);
      if (found->second.next.set != nullptr) found->second.next.lost.insert(*row);
      churn_.fetch_add(1, std::memory_order_relaxed);
    }
  });
}

// A row that lost the tag is a member still.
void LinkedSets::join(Members& members, const std::vector<Row>& rows) {
  std::vector<Row> fresh;
  fresh.reserve(rows.size());
  for (const Row row : rows) {
    if (members.lost.erase(row) == 0) fresh.push_back(row);
  }
  if (!fresh.empty()) members.set->join(fresh);
}

void LinkedSets::join(const std::vector<TagEntry>& added, const Tags& tags) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty() && asked_.empty()) return;
  std::vector<Row> rows;
  by_tag(added, [&](Tag tag, auto first, auto last) {
    const Posting* const posting = tags.find(tag);
    const auto found = slots_.find(tag);
    if (found == slots_.end()) {
      const auto asked = asked_.find(tag);
      const auto members = static_cast<std::uint64_t>(last - first) + (posting == nullptr ? 0 : posting->count());
      if (asked != asked_.end() && members > std::uint64_t{asked->second.declined} * 5 / 4) want(tag);
      return;
    }
    rows.clear();
    for (auto entry = first; entry != last; ++entry) {
      const bool is_repeated = entry != first && std::prev(entry)->offset == entry->offset;
      if (is_repeated || (posting != nullptr && posting->contains(entry->offset))) continue;
      if (const std::optional<Row> row = rows_.row_of(entry->offset)) rows.push_back(*row);
    }
    join(found->second.now, rows);
    if (found->second.next.set != nullptr) join(found->second.next, rows);
  });
}

void LinkedSets::drop(Tag tag) {
  const std::lock_guard<std::mutex> lock(mutex_);
  slots_.erase(tag);
  asked_.erase(tag);
  demand_.forget(tag);
  wanted_.erase(tag);
}

// REQUIRES mutex_.
void LinkedSets::want(Tag tag) {
  if (wanted_.insert(tag).second) queue_.push_back(tag);
}

void LinkedSets::ask(const Tag* tags, std::uint64_t count, std::uint32_t m) {
  if (m != 0 && (m < kMinM || m > kMaxM)) {
    throw Error(Code::invalid_argument,
                "m is " + std::to_string(m) + ", expected 0 or " + std::to_string(kMinM) + " to " + std::to_string(kMaxM));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::uint64_t i = 0; i < count; ++i) {
    asked_[tags[i]] = {m, 0};
    const auto found = slots_.find(tags[i]);
    if (found == slots_.end()) {
      want(tags[i]);
    } else {
      found->second.is_asked = true;
    }
  }
}

void LinkedSets::unlink(const Tag* tags, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) drop(tags[i]);
}

std::vector<LinkCover> LinkedSets::covers(const Program& program, const Tags& tags) const {
  std::vector<LinkCover> covers;
  for (std::vector<Tag>& required : required_unions(program)) {
    std::sort(required.begin(), required.end());
    required.erase(std::unique(required.begin(), required.end()), required.end());
    required.erase(std::remove_if(required.begin(), required.end(), [&](Tag tag) { return tags.find(tag) == nullptr; }), required.end());
    if (required.empty() || required.size() > kMostSets) continue;
    LinkCover cover;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Tag tag : required) {
      const auto found = slots_.find(tag);
      if (found == slots_.end()) {
        cover.missing.push_back({tag, tags.find(tag)->count()});
      } else {
        cover.sets.push_back(LinkedSet::view(found->second.now.set));
      }
    }
    cover.tags = std::move(required);
    covers.push_back(std::move(cover));
  }
  return covers;
}

void LinkedSets::note_use(const LinkCover& cover, std::uint64_t searches) {
  const std::lock_guard<std::mutex> lock(mutex_);
  demand_.tick(searches);
  for (const Tag tag : cover.tags) {
    const auto found = slots_.find(tag);
    if (found != slots_.end()) found->second.used = demand_.now();
  }
}

bool LinkedSets::note_miss(const LinkCover& cover, std::uint64_t searches) {
  const std::lock_guard<std::mutex> lock(mutex_);
  demand_.tick(searches);
  bool has_more = false;
  for (const LinkCover::Missing& missing : cover.missing) {
    if (slots_.count(missing.tag) != 0 || !demand_.note(missing.tag, searches)) continue;
    demand_.forget(missing.tag);
    want(missing.tag);
    has_more = true;
  }
  return has_more;
}

LinkFigures LinkedSets::figures() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  LinkFigures figures;
  for (const auto& [tag, slot] : slots_) {
    ++figures.sets;
    figures.members += slot.now.set->joined();
    figures.bytes += slot.now.set->bytes() + (slot.next.set == nullptr ? 0 : slot.next.set->bytes());
  }
  return figures;
}

}  // namespace vecdb
