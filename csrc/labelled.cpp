// Points of the labelled index: adding, updating, replacing, deleting. Searches are in labelled_search.cpp, tags in labelled_tags.cpp.

#include "labelled.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "error.hpp"
#include "workers.hpp"

namespace vecdb {

namespace {

void check_max_elements(std::uint64_t max_elements) {
  if (max_elements <= kMostElements) return;
  throw Error(Code::invalid_argument,
              "max_elements is " + std::to_string(max_elements) + ", expected at most " + std::to_string(kMostElements));
}

template <class T>
void grow_for_one(std::vector<T>& values) {
  if (values.size() == values.capacity()) values.reserve(std::max<std::size_t>(16, 2 * values.size()));
}

}  // namespace

void check_finite(const float* rows, std::uint64_t count, std::uint32_t dim, const char* what) {
  for (std::uint64_t i = 0; i < count; ++i) {
    for (std::uint32_t j = 0; j < dim; ++j) {
      if (std::isfinite(rows[i * dim + j])) continue;
      throw Error(Code::invalid_argument, std::string(what) + " " + std::to_string(i) + " holds a value that is not finite at position " +
                                              std::to_string(j) + ", expected float32 numbers; nothing was changed");
    }
  }
}

LabelledContent make_content(const LabelledOptions& options) {
  if (options.dim == 0) throw Error(Code::invalid_argument, "dim is 0, expected at least 1");
  if (options.metric == Metric::cosine) {
    throw Error(Code::invalid_argument, "the metric is cosine, expected l2 or dot: normalise the vectors and use dot");
  }
  check_max_elements(options.max_elements);
  LabelledContent content;
  content.options = options;
  content.vectors = std::make_unique<Vectors>(options.dim, options.metric);
  if (options.m != 0) {
    content.options.ef_construction = std::max(options.ef_construction, options.m);
    const auto capacity = static_cast<Node>(std::max<std::uint64_t>(1, options.max_elements));
    content.graph = std::make_shared<Graph>(*content.vectors, content.graph_options(options.m), capacity);
  }
  return content;
}

// Gives a claim back, whatever happens.
class LabelledIndex::Claim {
 public:
  Claim(LabelledIndex& index, Node node) : index_(index), node_(node) {}
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() { index_.release(node_); }

 private:
  LabelledIndex& index_;
  Node node_;
};

LabelledIndex::LabelledIndex(LabelledContent content) : content_(std::move(content)) {
  nodes_.reserve(content_.labels.size());
  for (Node node = 0; node < content_.count(); ++node) {
    const bool live = is_live(node);
    if (!live) deleted_.insert(node);
    const auto [place, is_new] = nodes_.emplace(content_.labels[node], node);
    // hnswlib can leave a deleted point with the label of a live one: the label means the live one.
    if (!is_new && live) place->second = node;
  }
}

void LabelledIndex::add(const float* rows, const Label* labels, std::uint64_t count, std::uint32_t threads, Places places) {
  const std::uint32_t dim = content_.options.dim;
  if (places == Places::deleted_first && content_.options.deleted_places == DeletedPlaces::kept) {
    throw Error(Code::invalid_argument,
                "Replacement of deleted elements is disabled in constructor: make the index with allow_replace_deleted");
  }
  check_finite(rows, count, dim, "row");
  std::mutex next_mutex;
  std::uint64_t next = 0;
  run_workers(static_cast<std::uint32_t>(std::min<std::uint64_t>(threads, count)), [&] {
    for (;;) {
      std::unique_lock<std::mutex> turn(next_mutex);
      if (next >= count) return;
      const std::uint64_t i = next++;
      const float* const row = rows + i * dim;
      try {
        const Task task = reserve(row, labels[i], places);
        const Claim claim(*this, task.node);
        turn.unlock();
        carry_out(task, row);
      } catch (...) {
        if (!turn.owns_lock()) turn.lock();
        next = count;
        throw;
      }
    }
  });
}

LabelledIndex::Task LabelledIndex::reserve(const float* row, Label label, Places places) {
  StateLock lock(state_mutex_);
  const auto is_free = [this, label] {
    const auto found = nodes_.find(label);
    return found == nodes_.end() || claimed_.count(found->second) == 0;
  };
  unclaimed_.wait(lock, is_free);
  const auto found = nodes_.find(label);
  if (found != nodes_.end()) {
    if (places == Places::fresh && content_.options.deleted_places == DeletedPlaces::reused && !is_live(found->second)) {
      throw Error(Code::invalid_argument, "label " + std::to_string(label) +
                                              " is deleted and its place may be reused: add it with replace_deleted, or unmark it first");
    }
    claimed_.insert(found->second);
    return {found->second, Work::update, label};
  }
  if (places == Places::deleted_first) {
    const auto vacant = std::find_if(deleted_.begin(), deleted_.end(), [this](Node node) { return claimed_.count(node) == 0; });
    if (vacant != deleted_.end()) {
      const Node node = *vacant;
      claimed_.insert(node);
      try {
        nodes_.emplace(label, node);
      } catch (...) {
        claimed_.erase(node);
        throw;
      }
      const auto old = nodes_.find(content_.labels[node]);
      if (old != nodes_.end() && old->second == node) nodes_.erase(old);
      return {node, Work::update, label};
    }
  }
  return {append(row, label), Work::insert, label};
}

// REQUIRES state_mutex_. The new point is claimed, and live.
Node LabelledIndex::append(const float* row, Label label) {
  const Node node = content_.count();
  if (node >= content_.options.max_elements) {
    throw Error(Code::capacity, "The number of elements exceeds the specified limit: max_elements is " +
                                    std::to_string(content_.options.max_elements) + "; resize the index first");
  }
  grow_for_one(content_.labels);
  claimed_.insert(node);
  try {
    nodes_.emplace(label, node);
    content_.live.writable().resize(node + 1);
    content_.vectors->append(row, 1);
  } catch (...) {
    nodes_.erase(label);
    claimed_.erase(node);
    throw;
  }
  content_.live.writable().set(node);
  content_.labels.push_back(label);
  return node;
}

void LabelledIndex::carry_out(const Task& task, const float* row) {
  if (task.work == Work::update) {
    overwrite(task, row);
    return;
  }
  try {
    insert_links(task.node);
  } catch (...) {
    withdraw(task.node);
    throw;
  }
}

void LabelledIndex::insert_links(Node node) {
  for (;;) {
    {
      const std::shared_lock<FairSharedMutex> gate(gate_);
      if (content_.graph == nullptr) return;
      if (node < content_.graph->capacity()) {
        content_.graph->insert(node, node);
        return;
      }
    }
    const std::unique_lock<FairSharedMutex> gate(gate_);
    make_room(node);
  }
}

// REQUIRES gate_ exclusively.
void LabelledIndex::make_room(Node node) {
  const std::uint64_t capacity = content_.graph->capacity();
  if (node < capacity) return;
  const std::uint64_t wanted = std::max<std::uint64_t>(std::uint64_t{node} + 1, 2 * capacity);
  content_.graph = content_.graph->grown(static_cast<Node>(std::min(wanted, kMostElements)));
}

// The point keeps its place; label, tags and vector change while no search looks.
void LabelledIndex::overwrite(const Task& task, const float* row) {
  const Node node = task.node;
  const std::unique_lock<FairSharedMutex> gate(gate_);
  std::vector<std::shared_ptr<TagLinks>> links;
  {
    const std::lock_guard<std::mutex> lock(state_mutex_);
    links = content_.links;
    if (building_ != nullptr) links.push_back(building_);
    if (content_.labels[node] != task.label) {
      for (const Tag tag : content_.tag_lists.take(node)) content_.tags.remove({{tag, node}});
      content_.labels[node] = task.label;
    }
  }
  content_.vectors->overwrite(node, row);
  if (content_.graph != nullptr) {
    make_room(node);
    if (content_.graph->contains(node)) {
      content_.graph->update(node);
    } else {
      content_.graph->insert(node, node);
    }
  }
  for (const std::shared_ptr<TagLinks>& link : links) link->update(node);
  const std::lock_guard<std::mutex> lock(state_mutex_);
  content_.live.writable().set(node);
  deleted_.erase(node);
}

// A point whose links could not be made must not look searchable.
void LabelledIndex::withdraw(Node node) {
  const std::lock_guard<std::mutex> lock(state_mutex_);
  deleted_.insert(node);
  content_.live.writable().reset(node);
}

void LabelledIndex::release(Node node) noexcept {
  {
    const std::lock_guard<std::mutex> lock(state_mutex_);
    claimed_.erase(node);
  }
  unclaimed_.notify_all();
}

Node LabelledIndex::node_of(Label label) const {
  const auto found = nodes_.find(label);
  if (found == nodes_.end()) throw Error(Code::not_found, "Label not found: " + std::to_string(label) + " is not in the index");
  return found->second;
}

Node LabelledIndex::unclaimed_node_of(Label label, StateLock& lock) const {
  Node node = node_of(label);
  while (claimed_.count(node) != 0) {
    unclaimed_.wait(lock);
    node = node_of(label);
  }
  return node;
}

void LabelledIndex::mark_deleted(Label label) {
  StateLock lock(state_mutex_);
  const Node node = unclaimed_node_of(label, lock);
  if (!deleted_.insert(node).second) {
    throw Error(Code::invalid_argument, "The requested to delete element is already deleted: label " + std::to_string(label));
  }
  content_.live.writable().reset(node);
}

void LabelledIndex::unmark_deleted(Label label) {
  StateLock lock(state_mutex_);
  const Node node = unclaimed_node_of(label, lock);
  if (deleted_.count(node) == 0) {
    throw Error(Code::invalid_argument, "The requested to undelete element is not deleted: label " + std::to_string(label));
  }
  content_.live.writable().set(node);
  deleted_.erase(node);
}

void LabelledIndex::resize(std::uint64_t max_elements) {
  check_max_elements(max_elements);
  const std::lock_guard<std::mutex> lock(state_mutex_);
  if (max_elements < content_.labels.size()) {
    throw Error(Code::invalid_argument, "Cannot resize, max element is less than the current number of elements: " +
                                            std::to_string(max_elements) + " is below " + std::to_string(content_.labels.size()));
  }
  content_.options.max_elements = max_elements;
}

LabelledStats LabelledIndex::stats() const {
  const std::lock_guard<std::mutex> lock(state_mutex_);
  return {content_.labels.size(), deleted_.size(), content_.options};
}

std::vector<LabelledIndex::Entry> LabelledIndex::entries() const {
  const std::lock_guard<std::mutex> lock(state_mutex_);
  std::vector<Entry> entries;
  entries.reserve(content_.labels.size());
  for (Node node = 0; node < content_.count(); ++node) {
    const Label label = content_.labels[node];
    const auto found = nodes_.find(label);
    if (found != nodes_.end() && found->second == node) entries.push_back({label, !is_live(node)});
  }
  return entries;
}

void LabelledIndex::copy_rows(const Label* labels, std::uint64_t count, float* out) const {
  const std::shared_lock<FairSharedMutex> gate(gate_);
  const std::size_t dim = content_.options.dim;
  for (std::uint64_t i = 0; i < count; ++i) {
    Node node = 0;
    {
      const std::lock_guard<std::mutex> lock(state_mutex_);
      node = node_of(labels[i]);
      if (!is_live(node)) throw Error(Code::not_found, "Label not found: " + std::to_string(labels[i]) + " is deleted");
    }
    std::memcpy(out + i * dim, content_.vectors->row(node), dim * sizeof(float));
  }
}

}  // namespace vecdb
