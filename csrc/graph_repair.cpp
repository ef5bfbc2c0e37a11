// Dead nodes leave: whoever links to them adopts what they link to, as in FreshDiskANN (Singh et al. 2021, Alg. 4), but keeps its other
// links as they are, takes what lies apart from these, and is linked back where a list has room; then the dead are forgotten.
// Thread rule: as graph.hpp says of repair and remove_dead.

#include <algorithm>
#include <vector>

#include "graph_builder.hpp"

namespace vecdb {

void Graph::repair(Node first, Node last, const LiveNodes& live) {
  const auto builder = builders_.take();
  builder->make_room(max_links(0));
  for (Node node = first; node < std::min(last, capacity()); ++node) {
    if (lists_.state(node) == LinkLists::State::absent || !live.contains(node)) continue;
    for (int level = 0; level <= level_of(node); ++level) {
      const std::uint32_t count = lists_.copy(node, level, builder->links.data());
      const auto is_dead = [&live](Node link) { return !live.contains(link); };
      if (std::any_of(builder->links.begin(), builder->links.begin() + count, is_dead)) replace_dead(node, level, live, *builder);
    }
  }
}

// Where dead neighbours lead nowhere that lives, or half of all are dead, a walk finds new ones.
void Graph::replace_dead(Node node, int level, const LiveNodes& live, Builder& builder) {
  builder.around.clear();
  builder.scratch.visited.reset(capacity());
  builder.scratch.visited.insert(node);
  add_bridged(node, level, live, builder);
  Node* const links_end = builder.links.data() + lists_.copy(node, level, builder.links.data());
  const auto lost = std::count_if(builder.links.data(), links_end, [&live](Node link) { return !live.contains(link); });
  const bool is_torn = 2 * lost >= links_end - builder.links.data();
  if (builder.around.size() < options_.m || is_torn) {
    walk_for(node, level, live, builder);
    builder.around.clear();
    for (const NearList::Entry& entry : builder.near) {
      if (entry.is_result && builder.around.size() < max_links(0)) builder.around.push_back(entry.node);
    }
  }
  adopt(node, level, live, builder);
  // Without links back, recall at ef 100 falls by 0.003 in ten rounds that replace a fifth; a list with room costs no choice.
  for (const Node taken : builder.around) give_place(taken, node, level, builder);
}

// Puts builder.around in the place of dead neighbours, and leaves there what node took of it.
void Graph::adopt(Node node, int level, const LiveNodes& live, Builder& builder) {
  builder.candidates.reserve(builder.around.size() + max_links(0));
  builder.kept.reserve(max_links(0));

  const LinkLists::Hold hold(lists_, node);
  Node* const links = builder.links.data();
  Node* const end = links + lists_.copy(node, level, links);
  // An insertion may have linked some of them meanwhile.
  const auto is_linked = [&](Node one) { return std::find(links, end, one) != end; };
  builder.around.erase(std::remove_if(builder.around.begin(), builder.around.end(), is_linked), builder.around.end());
  Node* const dead = std::partition(links, end, [&live](Node link) { return live.contains(link); });
  if (level == 0) std::for_each(dead, end, [this](Node link) { lists_.drop_last_in_link(link); });
  builder.candidates.clear();
  add_candidates(node, links, static_cast<std::uint32_t>(dead - links), true, builder);
  builder.kept = builder.candidates;
  builder.candidates.clear();
  add_candidates(node, builder.around.data(), static_cast<std::uint32_t>(builder.around.size()), false, builder);
  fill_up(max_links(level), builder);
  rewrite(node, level, builder);
  builder.around.clear();
  for (const Neighbour& one : builder.kept) {
    if (!one.is_linked) builder.around.push_back(one.node);
  }
}

// Adds to builder.kept those of builder.candidates that are nearer to the node than to any that is kept, up to `most` in all. To choose
// among the old links anew would cost some whose place nothing can take: recall falls by 0.01 in ten rounds that replace a fifth.
void Graph::fill_up(std::uint32_t most, Builder& builder) const {
  std::vector<Neighbour>& kept = builder.kept;
  builder.refused.clear();
  std::sort(builder.candidates.begin(), builder.candidates.end());
  for (const Neighbour& candidate : builder.candidates) {
    const auto is_apart = [&](const Neighbour& one) { return vectors_.link_distance(candidate.row, one.row) >= candidate.distance; };
    if (kept.size() == most) return;
    if (std::all_of(kept.begin(), kept.end(), is_apart)) kept.push_back(candidate);
  }
}

// Adds to builder.around the live nodes that dead neighbours of node link to, and those beyond other dead ones, a bounded number of them.
void Graph::add_bridged(Node node, int level, const LiveNodes& live, Builder& builder) {
  std::vector<Node>& dead = builder.found_dead;
  Node* const links = builder.links.data();
  const std::size_t most_dead = 2 * std::size_t{max_links(level)};
  const std::size_t most_live = 4 * std::size_t{max_links(level)};
  dead.clear();
  const auto sort_out = [&](Node from) {
    const std::uint32_t count = lists_.copy(from, level, links);
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!builder.scratch.visited.insert(links[i])) continue;
      if (!live.contains(links[i])) {
        if (dead.size() < most_dead) dead.push_back(links[i]);
      } else if (from != node && builder.around.size() < most_live) {
        builder.around.push_back(links[i]);
      }
    }
  };
  sort_out(node);
  for (std::size_t i = 0; i < dead.size(); ++i) sort_out(dead[i]);
}

Node Graph::count_dead(const LiveNodes& live) const {
  Node dead = 0;
  for (Node node = 0; node < std::min(capacity(), live.limit); ++node) dead += contains(node) && !live.contains(node) ? 1 : 0;
  return dead;
}

Graph::Entry Graph::highest() const {
  Entry top{0, -1};
  for (Node node = 0; node < capacity(); ++node) {
    if (contains(node) && level_of(node) > top.level) top = {node, level_of(node)};
  }
  return top;
}

void Graph::remove_dead(const LiveNodes& live) {
  std::vector<Node> links(max_links(0));
  for (Node node = 0; node < capacity(); ++node) {
    const LinkLists::State state = lists_.state(node);
    if (state == LinkLists::State::absent || live.contains(node)) continue;
    lists_.set_state(node, LinkLists::State::absent);
    if (state == LinkLists::State::linked) count_.fetch_sub(1, std::memory_order_acq_rel);
  }
  if (entry().level >= 0 && !contains(entry().node)) publish(highest());
  // A search that stands on one of them meanwhile sees an empty list, and goes on from the rest of its beam.
  for (Node node = 0; node < std::min(capacity(), live.limit); ++node) {
    if (live.contains(node) || lists_.state(node) != LinkLists::State::absent) continue;
    for (int level = 0; level <= level_of(node); ++level) {
      const LinkLists::Hold hold(lists_, node);
      const std::uint32_t count = lists_.copy(node, level, links.data());
      for (std::uint32_t i = 0; i < count && level == 0; ++i) lists_.drop_last_in_link(links[i]);
      if (count > 0) lists_.replace(node, level, links.data(), 0);
    }
  }
}

}  // namespace vecdb
