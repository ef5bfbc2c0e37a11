#include "tag_links.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "vecdb.h"

namespace vecdb {

namespace {

constexpr Node kMinCapacity = 16;

std::vector<Tag> sorted_unique(std::vector<Tag> tags) {
  std::sort(tags.begin(), tags.end());
  tags.erase(std::unique(tags.begin(), tags.end()), tags.end());
  return tags;
}

}  // namespace

TagLinks::TagLinks(const Vectors& vectors, std::vector<Tag> tags, GraphOptions options, Node capacity)
    : tags_(sorted_unique(std::move(tags))), graph_(std::make_shared<Graph>(vectors, options, std::max(capacity, kMinCapacity))) {}

TagLinks::TagLinks(std::vector<Tag> tags, std::unique_ptr<Graph> graph) : tags_(sorted_unique(std::move(tags))), graph_(std::move(graph)) {
  const Node count = graph_->count();
  nodes_.reserve(count);
  for (Node node = 0; node < count; ++node) nodes_.emplace(graph_->row_of(node), node);
}

bool TagLinks::has(Tag tag) const { return std::binary_search(tags_.begin(), tags_.end(), tag); }

bool TagLinks::covers(const std::vector<Tag>& tags) const {
  return std::all_of(tags.begin(), tags.end(), [this](Tag tag) { return has(tag); });
}

std::shared_ptr<const Graph> TagLinks::graph() const {
  const std::lock_guard<std::mutex> lock(nodes_mutex_);
  return graph_;
}

TagLinks::Place TagLinks::place_of(Row row) {
  const std::lock_guard<std::mutex> lock(nodes_mutex_);
  const auto next = static_cast<Node>(nodes_.size());
  return {graph_, nodes_.emplace(row, next).first->second};
}

void TagLinks::insert(Row row) {
  for (;;) {
    Node needed = 0;
    {
      const std::shared_lock<std::shared_mutex> lock(growth_);
      const Place place = place_of(row);
      if (place.node < place.graph->capacity()) {
        // A node without links is what a failed insertion left: it is tried again.
        if (!place.graph->contains(place.node)) place.graph->insert(place.node, row);
        return;
      }
      needed = place.node;
    }
    grow(needed);
  }
}

void TagLinks::grow(Node needed) {
  const std::unique_lock<std::shared_mutex> lock(growth_);
  const std::shared_ptr<const Graph> old = graph();
  if (needed < old->capacity()) return;
  constexpr std::uint64_t kMost = UINT32_MAX;
  const auto capacity = static_cast<Node>(std::min(kMost, std::max<std::uint64_t>(needed + 1, 2 * std::uint64_t{old->capacity()})));
  std::shared_ptr<Graph> larger = old->grown(capacity);
  const std::lock_guard<std::mutex> swap_lock(nodes_mutex_);
  graph_ = std::move(larger);
}

void TagLinks::update(Row row) {
  const std::lock_guard<std::mutex> lock(nodes_mutex_);
  const auto found = nodes_.find(row);
  if (found != nodes_.end() && found->second < graph_->capacity() && graph_->contains(found->second)) graph_->update(found->second);
}

namespace {

// What is known of a set on the program's stack: every member has at least one tag of each of these unions.
using Unions = std::vector<std::vector<Tag>>;

// Of alternatives one union each is enough: a member of any of them has a tag of the joint one.
Unions of_alternatives(std::vector<Unions> alternatives) {
  std::vector<Tag> joint;
  for (Unions& unions : alternatives) {
    if (unions.empty()) return {};
    joint.insert(joint.end(), unions.front().begin(), unions.front().end());
  }
  return alternatives.empty() ? Unions{} : Unions{std::move(joint)};
}

Unions of_conjunction(std::vector<Unions> parts) {
  Unions all;
  for (Unions& unions : parts) std::move(unions.begin(), unions.end(), std::back_inserter(all));
  return all;
}

std::vector<Unions> pop(std::vector<Unions>& stack, std::uint64_t count) {
  const auto first = stack.end() - static_cast<std::ptrdiff_t>(count);
  std::vector<Unions> popped(std::make_move_iterator(first), std::make_move_iterator(stack.end()));
  stack.erase(first, stack.end());
  return popped;
}

}  // namespace

std::vector<std::vector<Tag>> required_unions(const Program& program) {
  std::vector<Unions> stack;
  const std::uint64_t* const words = program.words();
  for (std::size_t at = 0; at < program.size(); at += operation_size(words + at)) {
    switch (words[at]) {
      case VECDB_OP_TAG:
        stack.push_back({{words[at + 1]}});
        break;
      case VECDB_OP_ANY_TAG:
        stack.push_back({std::vector<Tag>(words + at + 2, words + at + 2 + words[at + 1])});
        break;
      case VECDB_OP_AND:
        stack.push_back(of_conjunction(pop(stack, words[at + 1])));
        break;
      case VECDB_OP_OR:
        stack.push_back(of_alternatives(pop(stack, words[at + 1])));
        break;
      case VECDB_OP_AT_LEAST:
        pop(stack, words[at + 1]);
        stack.emplace_back();
        break;
      case VECDB_OP_NOT:
        stack.back().clear();
        break;
      default:  // what else pushes a set promises no tag
        stack.emplace_back();
    }
  }
  return stack.empty() ? Unions{} : std::move(stack.back());
}

std::shared_ptr<const TagLinks> smallest_cover(const std::vector<std::shared_ptr<TagLinks>>& links, const Program& program) {
  std::shared_ptr<const TagLinks> best;
  if (links.empty()) return best;
  const std::vector<std::vector<Tag>> unions = required_unions(program);
  for (const std::shared_ptr<TagLinks>& candidate : links) {
    const bool covers = std::any_of(unions.begin(), unions.end(), [&](const std::vector<Tag>& tags) { return candidate->covers(tags); });
    if (covers && (best == nullptr || candidate->members() < best->members())) best = candidate;
  }
  return best;
}

}  // namespace vecdb
