// Searches meet the sets here: which of them a program leads through, and which are missing.

#include <algorithm>
#include <utility>

#include "linked_sets.hpp"
#include "tag_links.hpp"

namespace vecdb {

namespace {

// A cover of more sets would cost more walks than it saves.
constexpr std::size_t kMostSets = 8;
// A window or cell that is there serves what another that is not smaller by this factor would.
constexpr std::uint64_t kSpareSize = 2;
constexpr std::size_t kMostCounted = 1024;

// Unions of tags that something has, of which every match of the program has at least one; small enough to be covered.
std::vector<std::vector<Tag>> unions_of(const Program& program, const Tags& tags) {
  std::vector<std::vector<Tag>> unions;
  for (std::vector<Tag>& required : required_unions(program)) {
    std::sort(required.begin(), required.end());
    required.erase(std::unique(required.begin(), required.end()), required.end());
    required.erase(std::remove_if(required.begin(), required.end(), [&](Tag tag) { return tags.find(tag) == nullptr; }), required.end());
    if (!required.empty() && required.size() <= kMostSets) unions.push_back(std::move(required));
  }
  return unions;
}

}  // namespace

std::vector<LinkCover> LinkedSets::covers(const Program& program, const Tags& tags) const {
  std::vector<LinkCover> covers;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty()) return covers;
  for (const std::vector<Tag>& required : unions_of(program, tags)) {
    LinkCover cover;
    for (const Tag tag : required) {
      const auto found = slots_.find(tag);
      if (found == slots_.end()) break;
      cover.keys.emplace_back(tag);
      cover.sets.push_back(LinkedSet::view(found->second.now));
    }
    if (cover.sets.size() == required.size()) covers.push_back(std::move(cover));
  }
  const auto areas = slots_.lower_bound(LinkWindow{0, {}});
  if (areas == slots_.end()) return covers;
  for (const LinkKey& narrow : required_areas(program)) {
    for (auto slot = areas; slot != slots_.end(); ++slot) {
      if (slot->first.covers(narrow)) covers.push_back({{slot->first}, {LinkedSet::view(slot->second.now)}});
    }
  }
  return covers;
}

// Whether a set that covers this is there, or on its way, so that one of so many members would be too much. REQUIRES mutex_.
bool LinkedSets::is_served(const LinkKey& narrow, std::uint64_t members) const {
  const auto serves = [&](const LinkKey& key, std::uint64_t own) { return own <= kSpareSize * members && key.covers(narrow); };
  return std::any_of(slots_.begin(), slots_.end(), [&](const auto& slot) { return serves(slot.first, slot.second.now->joined()); }) ||
         std::any_of(wanted_.begin(), wanted_.end(), [&](const auto& wanted) { return serves(wanted.first, wanted.second.members); });
}

// Cells are counted once, for a filter that comes again. REQUIRES mutex_.
std::uint64_t LinkedSets::members_of(const LinkKey& key, const Attributes& attributes) const {
  if (key.cell() == nullptr) return count_about(key, attributes);
  if (counted_.size() >= kMostCounted) counted_.clear();
  const auto [counted, is_new] = counted_.emplace(key.mark(), 0);
  if (is_new) counted->second = count_about(key, attributes);
  return counted->second;
}

// As narrow as can be, for a range or an area that comes again as it is; and one that others can share. REQUIRES mutex_.
void LinkedSets::find_missing(const LinkKey& narrow, const Attributes& attributes, std::vector<MissingLinks>& missing) const {
  const bool is_asked =
      std::any_of(asked_columns_.begin(), asked_columns_.end(), [&](const auto& asked) { return narrow.is_of_column(asked.first); });
  const auto add = [&](const LinkKey& key, std::uint64_t mark, bool is_shared) {
    const std::uint64_t members = members_of(key, attributes);
    if (members == 0 || is_most(members, rows_.live_rows()) || is_served(narrow, members)) return;
    missing.push_back({{}, {{key, mark, members}}, is_asked, is_asked && is_shared});
  };
  add(narrow, narrow.mark(), false);
  if (const std::optional<SharedKey> shared = shared_key(narrow, attributes)) add(shared->key, shared->mark, true);
}

std::vector<MissingLinks> LinkedSets::missing(const Program& program, const Attributes& attributes) const {
  std::vector<MissingLinks> missing;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (demand_.is_paused()) return missing;
  for (const std::vector<Tag>& required : unions_of(program, attributes.tags)) {
    MissingLinks links;
    for (const Tag tag : required) {
      const auto found = slots_.find(tag);
      if (found == slots_.end()) {
        links.keys.push_back({tag, LinkKey(tag).mark(), attributes.tags.find(tag)->count()});
      } else {
        links.rest.keys.emplace_back(tag);
        links.rest.sets.push_back(LinkedSet::view(found->second.now));
      }
    }
    if (!links.keys.empty()) missing.push_back(std::move(links));
  }
  for (const LinkKey& narrow : required_areas(program)) find_missing(narrow, attributes, missing);
  return missing;
}

void LinkedSets::note_use(const LinkCover& cover, std::uint64_t searches) {
  const std::lock_guard<std::mutex> lock(mutex_);
  demand_.tick(searches);
  for (const LinkKey& key : cover.keys) {
    const auto found = slots_.find(key);
    if (found != slots_.end()) found->second.used = demand_.now();
  }
}

bool LinkedSets::note_miss(const std::vector<MissingLinks>& missing, std::uint64_t searches) {
  const std::lock_guard<std::mutex> lock(mutex_);
  demand_.tick(searches);
  for (const MissingLinks& links : missing) {
    bool has_more = false;
    for (const MissingLinks::Key& one : links.keys) {
      if (slots_.count(one.key) != 0) continue;
      if (links.at_once) demand_.hasten(one.mark);
      if (!demand_.note(one.mark, searches)) continue;
      demand_.forget(one.mark);
      want(one.key, {one.mark, one.members});
      has_more = true;
    }
    if (has_more) return true;  // what is less good would be in its shadow
  }
  return false;
}

}  // namespace vecdb
