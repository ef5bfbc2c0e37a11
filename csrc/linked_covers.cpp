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
// Links are made for at most so many tags together, the rarest of those asked for: what more would take away is little.
constexpr std::size_t kMostJoint = 4;

void sort_once_each(std::vector<Tag>& tags) {
  std::sort(tags.begin(), tags.end());
  tags.erase(std::unique(tags.begin(), tags.end()), tags.end());
}

// Unions of tags that something has, of which every match of the program has at least one; small enough to be covered.
std::vector<std::vector<Tag>> unions_of(const Program& program, const Tags& tags) {
  std::vector<std::vector<Tag>> unions;
  for (std::vector<Tag>& required : required_unions(program)) {
    sort_once_each(required);
    required.erase(std::remove_if(required.begin(), required.end(), [&](Tag tag) { return tags.find(tag) == nullptr; }), required.end());
    if (!required.empty() && required.size() <= kMostSets) unions.push_back(std::move(required));
  }
  return unions;
}

// The tags that every match has, ascending.
std::vector<Tag> required_tags(const std::vector<std::vector<Tag>>& unions) {
  std::vector<Tag> required;
  for (const std::vector<Tag>& one : unions) {
    if (one.size() == 1) required.push_back(one.front());
  }
  sort_once_each(required);
  return required;
}

// Of the tags that every match has, ascending; none when there are fewer than two.
std::optional<LinkKey> joint_key(std::vector<Tag> required, const Tags& tags) {
  if (required.size() < 2) return std::nullopt;
  if (required.size() > kMostJoint) {
    const auto is_rarer = [&](Tag one, Tag other) { return tags.find(one)->count() < tags.find(other)->count(); };
    std::stable_sort(required.begin(), required.end(), is_rarer);
    required.resize(kMostJoint);
    std::sort(required.begin(), required.end());
  }
  return LinkTags{std::move(required)};
}

}  // namespace

std::vector<LinkCover> LinkedSets::covers(const Program& program, const Tags& tags) const {
  std::vector<LinkCover> covers;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty()) return covers;
  const std::vector<std::vector<Tag>> unions = unions_of(program, tags);
  for (const std::vector<Tag>& required : unions) {
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
  const auto joint = slots_.lower_bound(LinkTags{});
  if (joint != areas) {
    const LinkKey all = LinkTags{required_tags(unions)};
    for (auto slot = joint; slot != areas; ++slot) {
      if (slot->first.covers(all)) covers.push_back({{slot->first}, {LinkedSet::view(slot->second.now)}});
    }
  }
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

// REQUIRES mutex_.
bool LinkedSets::is_on_the_way(const LinkKey& key) const { return slots_.count(key) != 0 || wanted_.count(key) != 0; }

// Several tags and cells are counted once, for a filter that comes again. REQUIRES mutex_.
std::uint64_t LinkedSets::members_of(const LinkKey& key, const Attributes& attributes) const {
  if (key.cell() == nullptr && key.tags() == nullptr) return count_about(key, attributes);
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
  const std::vector<std::vector<Tag>> unions = unions_of(program, attributes.tags);
  // Links of one tag beside those of all are the lesser ones where the same filter comes again, and the better ones where none does.
  const std::optional<LinkKey> joint = joint_key(required_tags(unions), attributes.tags);
  const bool is_joint_coming = joint && is_on_the_way(*joint);
  auto merit = LinkDemand::Merit::best;
  if (joint && !is_joint_coming) {
    const std::uint64_t members = members_of(*joint, attributes);
    if (members != 0 && !is_most(members, rows_.live_rows()) && !is_served(*joint, members)) {
      missing.push_back({{}, {{*joint, joint->mark(), members}}});
      merit = LinkDemand::Merit::some;
    }
  }
  for (const std::vector<Tag>& required : unions) {
    if (is_joint_coming && required.size() == 1) continue;
    MissingLinks links;
    if (required.size() == 1) links.merit = merit;
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
    if (found != slots_.end()) demand_.note_use(found->second.use, searches);
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
      if (!demand_.note(one.mark, searches, links.merit)) continue;
      const double share = demand_.share(one.mark);
      demand_.forget(one.mark);
      want(one.key, {one.mark, one.members, share});
      has_more = true;
    }
    if (has_more) return true;  // what is less good would be in its shadow
  }
  return false;
}

}  // namespace vecdb
