// Preparing nodes, writing lists, counting what leads to a node, and copying it all.

#include "link_lists.hpp"

#include <limits>

#include "error.hpp"

namespace vecdb {

namespace {

constexpr std::uint32_t rounded_up(std::uint32_t count, std::uint32_t step) { return (count + step - 1) / step * step; }

template <class AnyLink>
void store(AnyLink& link, std::uint32_t kept, std::memory_order order) {
  link.store(static_cast<typename AnyLink::value_type>(kept), order);
}

}  // namespace

LinkLists::LinkLists(std::uint32_t m, Node capacity)
    : m_(m),
      capacity_(capacity),
      base_stride_(rounded_up(2 * m, kLineBytes / (is_narrow() ? sizeof(NarrowLink) : sizeof(Link)))),
      wide_(is_narrow() ? 0 : std::size_t{capacity} * base_stride_),
      narrow_(is_narrow() ? std::size_t{capacity} * base_stride_ : 0),
      status_(capacity),
      held_(capacity),
      in_links_(capacity),
      upper_start_(capacity) {}

// Lists of one node lie side by side; what is left of a chunk that cannot hold them stays unused.
void LinkLists::give_upper_lists(Node node, int level) {
  const std::uint64_t needed = std::uint64_t{m_} * static_cast<std::uint64_t>(level);
  const std::lock_guard<std::mutex> lock(growth_);
  std::uint64_t start = upper_used_;
  while (upper_.contiguous_from(start) < needed) start += upper_.contiguous_from(start);
  if (start + needed > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(Code::capacity, "a graph holds at most 4294967295 links above level 0; divide the points among more collections");
  }
  upper_.reserve(start + needed);
  for (std::uint64_t i = start; i < start + needed; ++i) upper_[i].store(0, std::memory_order_relaxed);
  upper_used_ = start + needed;
  upper_start_[node] = static_cast<std::uint32_t>(start);
}

void LinkLists::set_row(Node node, Row row) {
  Row* shifts = shifts_.load(std::memory_order_acquire);
  if (shifts == nullptr && row == node) return;
  if (shifts == nullptr) {
    const std::lock_guard<std::mutex> lock(growth_);
    if (shift_array_ == nullptr) shift_array_ = std::make_unique<ZeroedArray<Row>>(capacity_);
    shifts = shift_array_->data();
    shifts_.store(shifts, std::memory_order_release);
  }
  shifts[node] = row - node;
}

void LinkLists::prepare(Node node, Row row, int level) {
  if (level > 0) give_upper_lists(node, level);
  set_row(node, row);
  const auto bits = static_cast<std::uint8_t>(static_cast<int>(State::prepared) << kStateShift | level);
  status_[node].store(bits, std::memory_order_release);
}

void LinkLists::set_state(Node node, State state) {
  const auto bits = static_cast<std::uint8_t>(static_cast<int>(state) << kStateShift | level_of(node));
  status_[node].store(bits, std::memory_order_release);
}

void LinkLists::append(Node node, int level, std::uint32_t count, Node link) {
  with_list(*this, node, level, [&](auto* list) { store(list[count], link + 1, std::memory_order_release); });
}

void LinkLists::replace(Node node, int level, const Node* links, std::uint32_t count) {
  with_list(*this, node, level, [&](auto* list) {
    for (std::uint32_t i = 0; i < count; ++i) store(list[i], links[i] + 1, std::memory_order_release);
    const std::uint32_t most = max_links(level);
    for (std::uint32_t i = count; i < most; ++i) store(list[i], 0, std::memory_order_release);
  });
}

bool LinkLists::restore(Node node, int level, const Node* links, std::uint32_t count) {
  constexpr auto kLinked = static_cast<std::uint8_t>(static_cast<int>(State::linked) << kStateShift);
  const auto lowest = static_cast<std::uint8_t>(kLinked | level);  // no state is above linked, so that states and levels compare as one
  bool fits = true;
  for (std::uint32_t i = 0; i < count; ++i) {
    fits = fits && links[i] < capacity_ && links[i] != node && status_[links[i]].load(std::memory_order_relaxed) >= lowest;
  }
  if (!fits) return false;
  with_list(*this, node, level, [&](auto* list) {
    for (std::uint32_t i = 0; i < count; ++i) store(list[i], links[i] + 1, std::memory_order_relaxed);
  });
  if (level != 0) return true;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::atomic<std::uint8_t>& in_links = in_links_[links[i]];
    const std::uint8_t seen = in_links.load(std::memory_order_relaxed);
    in_links.store(static_cast<std::uint8_t>(seen + (seen == kMany ? 0 : 1)), std::memory_order_relaxed);
  }
  return true;
}

void LinkLists::add_in_link(Node node) {
  std::uint8_t seen = in_links_[node].load(std::memory_order_relaxed);
  while (seen != kMany && !in_links_[node].compare_exchange_weak(seen, static_cast<std::uint8_t>(seen + 1), std::memory_order_relaxed)) {
  }
}

bool LinkLists::drop_in_link(Node node) {
  std::uint8_t seen = in_links_[node].load(std::memory_order_relaxed);
  while (seen != kMany) {
    if (seen <= 1) return false;
    if (in_links_[node].compare_exchange_weak(seen, static_cast<std::uint8_t>(seen - 1), std::memory_order_relaxed)) break;
  }
  return true;
}

void LinkLists::drop_last_in_link(Node node) {
  std::uint8_t seen = in_links_[node].load(std::memory_order_relaxed);
  while (seen != kMany && seen != 0 &&
         !in_links_[node].compare_exchange_weak(seen, static_cast<std::uint8_t>(seen - 1), std::memory_order_relaxed)) {
  }
}

void LinkLists::copy_from(const LinkLists& other) {
  for (Node node = 0; node < other.capacity_; ++node) {
    const State state = other.state(node);
    if (state == State::absent) continue;
    const int top = other.level_of(node);
    prepare(node, other.row_of(node), top);
    in_links_[node].store(other.in_links_[node].load(std::memory_order_relaxed), std::memory_order_relaxed);
    for (int level = 0; level <= top; ++level) {
      const std::uint32_t most = max_links(level);
      with_list(other, node, level, [&](const auto* from) {
        with_list(*this, node, level, [&](auto* to) {
          for (std::uint32_t i = 0; i < most; ++i) store(to[i], from[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
        });
      });
    }
    set_state(node, state);
  }
}

std::uint64_t LinkLists::bytes() const {
  const std::lock_guard<std::mutex> lock(growth_);
  return wide_.bytes() + narrow_.bytes() + status_.bytes() + held_.bytes() + in_links_.bytes() + upper_start_.bytes() + upper_.bytes() +
         (shift_array_ == nullptr ? 0 : shift_array_->bytes());
}

}  // namespace vecdb
