// Which offsets have a tag (Tags), and which tags an offset has (TagLists, for an index that must tell).
//
// Invariant: a tag whose last offset went is gone; there are no empty postings. Thread rule: like a standard container.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "postings.hpp"
#include "types.hpp"

namespace vecdb {

struct TagEntry {
  Tag tag;
  Offset offset;

  bool operator<(const TagEntry& other) const { return tag != other.tag ? tag < other.tag : offset < other.offset; }
};

class Tags {
 public:
  // Entries in any order, quicker when sorted; an entry that is there already, or is not there, is no error.
  void add(std::vector<TagEntry> entries);
  void remove(std::vector<TagEntry> entries);
  void drop(Tag tag);
  void clear();

  // nullptr when no offset has the tag.
  const Posting* find(Tag tag) const;

  std::size_t size() const { return postings_.size(); }
  std::uint64_t bytes() const;

 private:
  std::unordered_map<Tag, Posting> postings_;
  std::uint64_t posting_bytes_ = 0;
};

class TagLists {
 public:
  void add(Offset offset, Tag tag);
  void remove(Offset offset, Tag tag);
  // All tags of the offset, which are gone then: a reused place must not keep them.
  std::vector<Tag> take(Offset offset);
  void clear() { lists_.clear(); }

  // Ascending.
  const std::vector<Tag>& of(Offset offset) const;
  bool contains(Offset offset, Tag tag) const;

  template <class Visit>  // visit(Offset, const std::vector<Tag>&), in no particular order
  void for_each(Visit&& visit) const {
    for (const auto& [offset, tags] : lists_) visit(offset, tags);
  }

 private:
  std::unordered_map<Offset, std::vector<Tag>> lists_;
};

}  // namespace vecdb
