// How a node finds its neighbours and is linked with them: INSERT and SELECT-NEIGHBORS-HEURISTIC of Malkov & Yashunin (Alg. 1 and 4), and
// the same for a node whose vector was overwritten.
// Thread rule: lists are written under a Hold of their node, one at a time; whatever may throw for want of memory comes before it.

#include <algorithm>
#include <string>
#include <utility>

#include "error.hpp"
#include "graph_builder.hpp"
#include "walk.hpp"

namespace vecdb {

namespace {

// Dead nodes are walked over: a list of near nodes may hold this many times as many of all kinds as are wanted.
constexpr std::size_t kRoomForDead = 4;

void score(const RowTarget& target, const Row* rows, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = target.distance(rows[i]);
}
void score(const CodedTarget& target, const Row* rows, std::size_t count, float* out) {
  target.vectors.touch(rows, count);
  target.vectors.codes()->list_distances(target.query, rows, count, out);
}

// Calls use(target) with what tells distances to this row soonest.
template <class Use>
void with_target(const Vectors& vectors, Row row, const Use& use) {
  if (vectors.codes() == nullptr) {
    use(RowTarget{vectors, row});
  } else {
    const CodeQuery query(vectors.row(row), vectors.dim(), vectors.metric());
    use(CodedTarget{vectors, query});
  }
}

}  // namespace

// Everything that walks towards the row of node, in two passes: candidates from the top down, which changes nothing, then links from
// level 0 up.
void Graph::link(Node node, Entry start, const LiveNodes& live) {
  const auto builder = builders_.take();
  find_neighbours(node, start, live, *builder);
  const int top = std::min(level_of(node), start.level);
  for (int level = 0; level <= top; ++level) connect(node, level, *builder);
  force_in_link(node, *builder);
}

void Graph::find_neighbours(Node node, Entry start, const LiveNodes& live, Builder& builder) {
  with_target(vectors_, row_of(node), [&](const auto& target) { find_neighbours_of(node, start, target, live, builder); });
}

// Leaves in builder.near the live nodes near to node at one level.
void Graph::walk_for(Node node, int level, const LiveNodes& live, Builder& builder) {
  with_target(vectors_, row_of(node), [&](const auto& target) {
    Walk walk;
    const Scored start = descend(*this, entry(), level, target, builder.scratch, walk);
    walk_towards(level, start, node, target, live, builder);
  });
}

// Leaves in builder.found, by level, what node is to be linked to.
template <class Target>
void Graph::find_neighbours_of(Node node, Entry start, const Target& target, const LiveNodes& live, Builder& builder) {
  const int top = std::min(level_of(node), start.level);
  if (builder.found.size() <= static_cast<std::size_t>(top)) builder.found.resize(static_cast<std::size_t>(top) + 1);
  builder.make_room(max_links(0));
  Walk walk;
  Scored nearest = descend(*this, start, top, target, builder.scratch, walk);
  for (int level = top; level >= 0; --level) {
    walk_towards(level, nearest, node, target, live, builder);
    nearest = {builder.near.begin()->distance, builder.near.begin()->node};
    builder.candidates.clear();
    for (const NearList::Entry& entry : builder.near) {
      if (entry.is_result) builder.candidates.push_back({entry.distance, entry.node, row_of(entry.node), false});
    }
    keep_apart(options_.m, builder);
    builder.found[static_cast<std::size_t>(level)] = builder.kept;
  }
}

// SEARCH-LAYER (Alg. 2): leaves in builder.near the ef_construction live nodes nearest to target that were met, node itself apart, which
// can be met when an earlier attempt to insert it failed half way. While rows that one node links to come from memory, those of the node
// before are put in their places: so the walk goes on from the nearest node that was known one step earlier. Links are asked for when a
// node seems to be the next but one.
template <class Target>
void Graph::walk_towards(int level, Scored start, Node node, const Target& target, const LiveNodes& live, Builder& builder) {
  NearList& near = builder.near;
  builder.scratch.visited.reset(capacity());
  for (Batch& batch : builder.batches) {
    batch.nodes.resize(max_links(0));
    batch.rows.resize(max_links(0));
    batch.distances.resize(max_links(0));
    batch.count = 0;
  }
  const std::size_t wanted = options_.ef_construction;
  near.reset(wanted, live.limit == 0 ? wanted + 1 : kRoomForDead * wanted);
  const auto is_result = [node, &live](Node met) { return met != node && live.contains(met); };
  builder.scratch.visited.insert(start.node);
  near.insert(start, is_result(start.node));

  Batch* batch = &builder.batches[0];
  Batch* before = &builder.batches[1];
  for (;;) {
    const NearList::Entry* const nearest = near.next();
    if (nearest == nullptr && before->count == 0) return;
    const NearList::Entry* const following = near.peek();
    if (following != nullptr && level == 0) prefetch_links(following->node);
    score(target, before->rows.data(), before->count, before->distances.data());
    if (nearest != nullptr) gather(nearest->node, level, builder, *batch);
    before->keep_nearer(near.bound());
    for (std::uint32_t i = 0; i < before->count; ++i) {
      const Scored met{before->distances[i], before->nodes[i]};
      if (met.distance < near.bound() && near.insert(met, is_result(met.node)) && level == 0) prefetch_links(met.node);
    }
    before->count = 0;
    std::swap(batch, before);
  }
}

// Leaves in batch what node links to and the walk did not meet yet, and asks for its rows.
void Graph::gather(Node node, int level, Builder& builder, Batch& batch) const {
  const Codes* const codes = vectors_.codes();
  Node* const nodes = batch.nodes.data();
  const std::uint32_t count = copy_links(node, level, nodes);
  std::uint32_t fresh = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Node met = nodes[i];
    nodes[fresh] = met;
    fresh += builder.scratch.visited.insert(met) ? 1 : 0;
  }
  for (std::uint32_t i = 0; i < fresh; ++i) {
    const Row row = row_of(nodes[i]);
    batch.rows[i] = row;
    // Scored one step later: time enough for the second-level cache, which takes more requests at once.
    codes == nullptr ? vectors_.prefetch(row) : codes->prefetch_early(row);
  }
  batch.count = fresh;
}

// Of builder.candidates, ascending by distance, keep those that are nearer to the node than to any that is kept already, at most `most`:
// so that links lead into different directions. What is not kept goes to builder.refused.
void Graph::keep_apart(std::uint32_t most, Builder& builder) const {
  std::vector<Neighbour>& kept = builder.kept;
  kept.clear();
  builder.refused.clear();
  const bool takes_all = builder.candidates.size() < most;
  for (const Neighbour& candidate : builder.candidates) {
    bool is_apart = kept.size() < most;
    for (std::size_t i = 0; is_apart && !takes_all && i < kept.size(); ++i) {
      is_apart = vectors_.link_distance(candidate.row, kept[i].row) >= candidate.distance;
    }
    (is_apart ? kept : builder.refused).push_back(candidate);
  }
}

// Link node to what was found for it at level, and these back.
void Graph::connect(Node node, int level, Builder& builder) {
  const std::vector<Neighbour>& found = builder.found[static_cast<std::size_t>(level)];
  {
    const LinkLists::Hold hold(lists_, node);
    const std::uint32_t count = lists_.copy(node, level, builder.links.data());
    const auto old_end = builder.links.begin() + count;
    builder.kept = found;
    builder.refused.clear();
    if (count > 0) {
      for (Neighbour& kept : builder.kept) kept.is_linked = std::find(builder.links.begin(), old_end, kept.node) != old_end;
      for (auto old = builder.links.begin(); old != old_end; ++old) {
        const bool stays = std::any_of(found.begin(), found.end(), [old](const Neighbour& kept) { return kept.node == *old; });
        if (!stays) builder.refused.push_back({0.0F, *old, row_of(*old), true});
      }
    }
    rewrite(node, level, builder);
  }
  const Row row = row_of(node);
  for (const Neighbour& neighbour : found) link_back(neighbour.node, level, {neighbour.distance, node, row, false}, builder);
}

// Give node the link to `to`; a full list is chosen anew from its links and this one.
void Graph::link_back(Node node, int level, const Neighbour& to, Builder& builder) {
  const LinkLists::Hold hold(lists_, node);
  Node* const links = builder.links.data();
  const std::uint32_t count = lists_.copy(node, level, links);
  if (std::find(links, links + count, to.node) != links + count) return;
  if (count < max_links(level)) {
    if (level == 0) lists_.add_in_link(to.node);
    lists_.append(node, level, count, to.node);
    return;
  }
  builder.candidates.clear();
  builder.candidates.push_back(to);
  add_candidates(node, links, count, true, builder);
  choose(node, level, builder);
}

// Score these nodes as neighbours of node.
void Graph::add_candidates(Node node, const Node* nodes, std::uint32_t count, bool are_linked, Builder& builder) const {
  const Row row = row_of(node);
  for (std::uint32_t i = 0; i < count; ++i) vectors_.prefetch_coded(row_of(nodes[i]));
  for (std::uint32_t i = 0; i < count; ++i) {
    const Row other = row_of(nodes[i]);
    builder.candidates.push_back({vectors_.link_distance(row, other), nodes[i], other, are_linked});
  }
}

// Make of builder.candidates the list of node. REQUIRES a Hold of it.
void Graph::choose(Node node, int level, Builder& builder) {
  std::sort(builder.candidates.begin(), builder.candidates.end());
  keep_apart(max_links(level), builder);
  rewrite(node, level, builder);
}

// Make builder.kept the list of node. A link that was refused is dropped, unless it is the last one that leads to its node: it then takes
// the place of the farthest that can be spared. REQUIRES a Hold of node.
void Graph::rewrite(Node node, int level, Builder& builder) {
  std::vector<Neighbour>& kept = builder.kept;
  if (level == 0) {
    for (const Neighbour& neighbour : kept) {
      if (!neighbour.is_linked) lists_.add_in_link(neighbour.node);
    }
    for (const Neighbour& refused : builder.refused) {
      if (!refused.is_linked || lists_.drop_in_link(refused.node)) continue;
      if (kept.size() < max_links(level)) {
        kept.push_back(refused);
        continue;
      }
      const auto spare = std::find_if(kept.rbegin(), kept.rend(), [this](const Neighbour& one) { return lists_.drop_in_link(one.node); });
      if (spare == kept.rend()) {
        lists_.drop_last_in_link(refused.node);
      } else {
        *spare = refused;
      }
    }
  }
  const auto count = static_cast<std::uint32_t>(kept.size());
  for (std::uint32_t i = 0; i < count; ++i) builder.links[i] = kept[i].node;
  lists_.replace(node, level, builder.links.data(), count);
}

// A node that none of its neighbours linked back takes the place of a link that can be spared.
void Graph::force_in_link(Node node, Builder& builder) {
  if (lists_.in_links(node) != 0) return;
  Node* const links = builder.links.data();
  for (const Neighbour& neighbour : builder.found[0]) {
    const LinkLists::Hold hold(lists_, neighbour.node);
    const std::uint32_t count = lists_.copy(neighbour.node, 0, links);
    const auto rend = std::make_reverse_iterator(links);
    const auto spare =
        std::find_if(std::make_reverse_iterator(links + count), rend, [this](Node link) { return lists_.drop_in_link(link); });
    if (spare == rend) continue;
    *spare = node;
    lists_.add_in_link(node);
    lists_.replace(neighbour.node, 0, links, count);
    return;
  }
}

void Graph::update(Node node) {
  check_node(node);
  if (!contains(node)) throw Error(Code::not_found, "node " + std::to_string(node) + " is not in the graph; insert it first");
  const auto builder = builders_.take();
  const int top = level_of(node);
  find_neighbours(node, entry(), {}, *builder);
  for (int level = 0; level <= top; ++level) {
    close_gap(node, level, *builder);
    connect(node, level, *builder);
  }
  force_in_link(node, *builder);
}

// Take node out of the lists around its old place: whoever links to it, as far as its neighbours and theirs tell, chooses anew among its
// own links and those of node.
void Graph::close_gap(Node node, int level, Builder& builder) {
  Scratch& scratch = builder.scratch;
  std::vector<Node>& around = builder.around;
  std::vector<Node>& lost = scratch.links;
  scratch.visited.reset(capacity());
  scratch.visited.insert(node);
  lost.resize(max_links(0));
  lost.resize(lists_.copy(node, level, lost.data()));
  around.clear();
  for (const Node neighbour : lost) {
    if (scratch.visited.insert(neighbour)) around.push_back(neighbour);
  }
  for (const Node neighbour : lost) {
    const std::uint32_t count = lists_.copy(neighbour, level, builder.links.data());
    for (std::uint32_t i = 0; i < count; ++i) {
      if (scratch.visited.insert(builder.links[i])) around.push_back(builder.links[i]);
    }
  }
  for (const Node other : around) {
    const LinkLists::Hold hold(lists_, other);
    Node* const links = builder.links.data();
    const std::uint32_t count = lists_.copy(other, level, links);
    Node* const end = std::remove(links, links + count, node);
    if (end == links + count) continue;
    builder.candidates.clear();
    add_candidates(other, links, static_cast<std::uint32_t>(end - links), true, builder);
    for (const Node candidate : lost) {
      if (candidate != other && std::find(links, end, candidate) == end) add_candidates(other, &candidate, 1, false, builder);
    }
    if (level == 0) lists_.drop_last_in_link(node);
    choose(other, level, builder);
  }
}

}  // namespace vecdb
