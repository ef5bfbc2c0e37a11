// Tags of the labelled index. A row becomes a member of all links that its tag asks for before the tag is seen by searches.

#include <algorithm>
#include <atomic>
#include <shared_mutex>
#include <string>
#include <utility>

#include "error.hpp"
#include "labelled.hpp"
#include "workers.hpp"

namespace vecdb {

std::vector<Node> LabelledIndex::unclaimed_nodes_of(const Label* labels, std::uint64_t count, StateLock& lock) const {
  std::vector<Node> nodes;
  nodes.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Node node = node_of(labels[i]);
    if (claimed_.count(node) != 0) {
      // Waiting gives the lock away, so that what was looked up before may be out of date.
      unclaimed_.wait(lock);
      nodes.clear();
      i = static_cast<std::uint64_t>(-1);
      continue;
    }
    nodes.push_back(node);
  }
  return nodes;
}

void LabelledIndex::add_tags(const Label* labels, std::uint64_t count, Tag tag) {
  const std::lock_guard<std::mutex> tags_lock(tags_mutex_);
  StateLock lock(state_mutex_);
  std::vector<Node> nodes = unclaimed_nodes_of(labels, count, lock);
  for (;;) {
    std::vector<std::shared_ptr<TagLinks>> links;
    for (const std::shared_ptr<TagLinks>& link : content_.links) {
      if (link->has(tag)) links.push_back(link);
    }
    if (links.empty()) break;
    lock.unlock();
    for (const std::shared_ptr<TagLinks>& link : links) make_members(link, nodes, 1);
    lock.lock();
    // A label may have moved to another place meanwhile, which is then no member yet.
    std::vector<Node> now = unclaimed_nodes_of(labels, count, lock);
    if (now == nodes) break;
    nodes = std::move(now);
  }
  std::vector<TagEntry> entries;
  entries.reserve(nodes.size());
  for (const Node node : nodes) {
    content_.tag_lists.add(node, tag);
    entries.push_back({tag, node});
  }
  content_.tags.add(std::move(entries));
}

void LabelledIndex::remove_tags(const Label* labels, std::uint64_t count, Tag tag) {
  const std::lock_guard<std::mutex> tags_lock(tags_mutex_);
  StateLock lock(state_mutex_);
  std::vector<TagEntry> entries;
  for (const Node node : unclaimed_nodes_of(labels, count, lock)) entries.push_back({tag, node});
  for (const TagEntry& entry : entries) content_.tag_lists.remove(entry.offset, tag);
  content_.tags.remove(std::move(entries));
}

std::vector<Tag> LabelledIndex::tags_of(Label label) const {
  StateLock lock(state_mutex_);
  return content_.tag_lists.of(unclaimed_node_of(label, lock));
}

void LabelledIndex::reset_tags() {
  const std::lock_guard<std::mutex> tags_lock(tags_mutex_);
  const std::lock_guard<std::mutex> lock(state_mutex_);
  content_.tags.clear();
  content_.tag_lists.clear();
  content_.links.clear();
}

void LabelledIndex::link_tags(std::vector<Tag> tags, std::uint32_t m, std::uint32_t threads) {
  const std::lock_guard<std::mutex> tags_lock(tags_mutex_);
  if (content_.options.m == 0) {
    throw Error(Code::invalid_argument, "the index has no graph, so that tags cannot be linked; make it with m of at least 2");
  }
  std::shared_ptr<TagLinks> links;
  std::vector<Node> members;
  {
    const std::lock_guard<std::mutex> lock(state_mutex_);
    members = nodes_with_any(tags);
    if (members.empty()) {
      throw Error(Code::not_found, "no point has one of the " + std::to_string(tags.size()) + " tags to be linked; add the tags first");
    }
    const GraphOptions options = content_.graph_options(m != 0 ? m : content_.options.m);
    links = std::make_shared<TagLinks>(*content_.vectors, std::move(tags), options, static_cast<Node>(members.size()));
    building_ = links;
  }
  try {
    make_members(links, members, threads);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(state_mutex_);
    building_.reset();
    throw;
  }
  const std::lock_guard<std::mutex> lock(state_mutex_);
  building_.reset();
  const auto same = std::find_if(content_.links.begin(), content_.links.end(),
                                 [&](const std::shared_ptr<TagLinks>& other) { return other->tags() == links->tags(); });
  if (same != content_.links.end()) {
    *same = std::move(links);
  } else {
    content_.links.push_back(std::move(links));
  }
}

// REQUIRES state_mutex_.
std::vector<Node> LabelledIndex::nodes_with_any(const std::vector<Tag>& tags) const {
  Bitset rows(content_.count());
  for (const Tag tag : tags) {
    const Posting* const posting = content_.tags.find(tag);
    if (posting == nullptr) continue;
    if (posting->is_dense()) {
      posting->dense().for_each([&](Offset row) { rows.set(row); });
    } else {
      for (std::uint32_t i = 0; i < posting->count(); ++i) rows.set(posting->sorted()[i]);
    }
  }
  std::vector<Node> nodes;
  rows.for_each([&](Row row) { nodes.push_back(row); });
  return nodes;
}

// Links that miss a member would lose points, so they go when one cannot join.
void LabelledIndex::make_members(const std::shared_ptr<TagLinks>& links, const std::vector<Node>& nodes, std::uint32_t threads) {
  std::atomic<std::size_t> next{0};
  try {
    run_workers(static_cast<std::uint32_t>(std::min<std::size_t>(threads, nodes.size())), [&] {
      for (std::size_t i = next++; i < nodes.size(); i = next++) {
        const std::shared_lock<FairSharedMutex> gate(gate_);
        links->insert(nodes[i]);
      }
    });
  } catch (...) {
    const std::lock_guard<std::mutex> lock(state_mutex_);
    content_.links.erase(std::remove(content_.links.begin(), content_.links.end(), links), content_.links.end());
    throw;
  }
}

}  // namespace vecdb
