// The rows of a field as changes publish and bury them.

#include "field.hpp"

#include <algorithm>
#include <optional>
#include <shared_mutex>

#include "error.hpp"

namespace vecdb {

namespace {

constexpr std::uint32_t kMaxDim = 65536;

[[noreturn]] void refuse(std::uint32_t number, const std::string& what) {
  throw Error(Code::invalid_argument, "field " + std::to_string(number) + ": " + what);
}

GraphOptions checked(std::uint32_t number, const vecdb_field& options) {
  if (options.dim == 0 || options.dim > kMaxDim) {
    refuse(number, "dim is " + std::to_string(options.dim) + ", expected 1 to " + std::to_string(kMaxDim));
  }
  if (options.metric > VECDB_L2) refuse(number, "metric is " + std::to_string(options.metric) + ", expected one of vecdb_metric");
  if (options.coding > VECDB_EIGHT_BITS) {
    refuse(number, "coding is " + std::to_string(options.coding) + ", expected one of vecdb_coding");
  }
  if (options.m < kMinM || options.m > kMaxM) {
    refuse(number, "m is " + std::to_string(options.m) + ", expected " + std::to_string(kMinM) + " to " + std::to_string(kMaxM));
  }
  if (options.ef_construction == 0) refuse(number, "ef_construction is 0, expected at least 1");
  return {options.m, std::max(options.ef_construction, options.m), options.seed};
}

Row count_present(std::uint32_t count, const std::uint8_t* present) {
  return static_cast<Row>(count - static_cast<std::uint32_t>(std::count(present, present + count, std::uint8_t{0})));
}

}  // namespace

Field::Field(std::uint32_t number, const vecdb_field& options, FairSharedMutex& state, const Attributes& attributes)
    : number_(number),
      options_(checked(number, options)),
      state_(state),
      attributes_(attributes),
      vectors_(options.dim, static_cast<Metric>(options.metric), static_cast<Coding>(options.coding)),
      graph_(vectors_, options_),
      links_(vectors_, options_, *this) {}

void Field::check(std::uint32_t count, const std::uint8_t* present) const {
  const std::uint64_t needed = std::uint64_t{map_.rows()} + count_present(count, present);
  if (needed > vectors_.rows()) {
    refuse(number_, std::to_string(vectors_.rows()) + " rows are stored, this change needs " + std::to_string(needed) +
                        ": append or map rows before the change that uses them");
  }
}

void Field::make_room(std::uint32_t count, const std::uint8_t* present) { map_.reserve(count_present(count, present)); }

void Field::publish(Offset first, std::uint32_t count, const std::uint8_t* present) {
  const Row before = map_.rows();
  map_.append(first, count, present);
  const Row after = map_.rows();
  if (after != before) {
    Bitset& live = live_.writable();
    live.resize(after);
    live.set_range(before, after);
    live_count_ += after - before;
    live_rows_.store(static_cast<Row>(live_count_), std::memory_order_relaxed);
  }
  rows_.store(after, std::memory_order_release);
}

void Field::bury(Offset offset) {
  const std::optional<Row> row = map_.view().row_of(offset);
  if (!row || !live_.value().contains(*row)) return;
  live_.writable().reset(*row);
  --live_count_;
  links_.count_burial();
  live_rows_.store(static_cast<Row>(live_count_), std::memory_order_relaxed);
}

std::vector<Row> Field::rows_with(const LinkKey& key) const {
  std::vector<Row> rows;
  const RowMap::View map = map_.view();
  offsets_with(key, attributes_).for_each_listed([&](Offset offset) {
    const std::optional<Row> row = map.row_of(offset);
    if (row && live_.value().contains(*row)) rows.push_back(*row);
  });
  return rows;
}

Field::Snapshot Field::snapshot() const { return {map_.view(), live_.lease(), live_count_, graph_.view()}; }

CopyOnWrite<Bitset>::Lease Field::lease_live() const {
  const std::shared_lock<FairSharedMutex> lock(state_);
  return live_.lease();
}

}  // namespace vecdb
