// Entries are grouped by tag, so that each posting is changed once for a whole change.

#include "tags.hpp"

#include <algorithm>
#include <utility>

namespace vecdb {

namespace {

// Calls visit(tag, offsets, count) once for each tag, with its offsets ascending and unique.
template <class Visit>
void by_tag(std::vector<TagEntry>& entries, Visit&& visit) {
  if (!std::is_sorted(entries.begin(), entries.end())) std::sort(entries.begin(), entries.end());
  std::vector<Offset> offsets;
  for (std::size_t i = 0; i < entries.size();) {
    const Tag tag = entries[i].tag;
    offsets.clear();
    for (; i < entries.size() && entries[i].tag == tag; ++i) {
      if (offsets.empty() || offsets.back() != entries[i].offset) offsets.push_back(entries[i].offset);
    }
    visit(tag, offsets.data(), static_cast<std::uint32_t>(offsets.size()));
  }
}

}  // namespace

void Tags::add(std::vector<TagEntry> entries) {
  by_tag(entries, [&](Tag tag, const Offset* offsets, std::uint32_t count) {
    const auto [place, is_new] = postings_.try_emplace(tag);
    Posting& posting = place->second;
    const std::uint64_t before = is_new ? 0 : posting.bytes();
    posting.add(offsets, count);
    posting_bytes_ += posting.bytes() - before;
  });
}

void Tags::remove(std::vector<TagEntry> entries) {
  by_tag(entries, [&](Tag tag, const Offset* offsets, std::uint32_t count) {
    const auto found = postings_.find(tag);
    if (found == postings_.end()) return;
    Posting& posting = found->second;
    posting_bytes_ -= posting.bytes();
    posting.remove(offsets, count);
    if (posting.count() == 0) {
      postings_.erase(found);
    } else {
      posting_bytes_ += posting.bytes();
    }
  });
}

void Tags::drop(Tag tag) {
  const auto found = postings_.find(tag);
  if (found == postings_.end()) return;
  posting_bytes_ -= found->second.bytes();
  postings_.erase(found);
}

void Tags::clear() {
  postings_.clear();
  posting_bytes_ = 0;
}

const Posting* Tags::find(Tag tag) const {
  const auto found = postings_.find(tag);
  return found == postings_.end() ? nullptr : &found->second;
}

std::uint64_t Tags::bytes() const {
  // A node holds the key and a link beside the posting.
  return posting_bytes_ + postings_.size() * (sizeof(Tag) + sizeof(void*)) + postings_.bucket_count() * sizeof(void*);
}

void TagLists::add(Offset offset, Tag tag) {
  std::vector<Tag>& tags = lists_[offset];
  const auto place = std::lower_bound(tags.begin(), tags.end(), tag);
  if (place == tags.end() || *place != tag) tags.insert(place, tag);
}

void TagLists::remove(Offset offset, Tag tag) {
  const auto found = lists_.find(offset);
  if (found == lists_.end()) return;
  std::vector<Tag>& tags = found->second;
  const auto place = std::lower_bound(tags.begin(), tags.end(), tag);
  if (place == tags.end() || *place != tag) return;
  tags.erase(place);
  if (tags.empty()) lists_.erase(found);
}

std::vector<Tag> TagLists::take(Offset offset) {
  const auto found = lists_.find(offset);
  if (found == lists_.end()) return {};
  std::vector<Tag> tags = std::move(found->second);
  lists_.erase(found);
  return tags;
}

const std::vector<Tag>& TagLists::of(Offset offset) const {
  static const std::vector<Tag> kNone;
  const auto found = lists_.find(offset);
  return found == lists_.end() ? kNone : found->second;
}

bool TagLists::contains(Offset offset, Tag tag) const {
  const std::vector<Tag>& tags = of(offset);
  return std::binary_search(tags.begin(), tags.end(), tag);
}

}  // namespace vecdb
