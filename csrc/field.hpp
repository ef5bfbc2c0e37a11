// One vector field of a collection: its rows, which of them live, and its graph.
//
// Invariant: rows below rows() belong to an applied change. Thread rule: what changes the field needs the index's state lock exclusively,
// snapshot() needs its shared side; a Snapshot is used without any lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "bitset.hpp"
#include "copy_on_write.hpp"
#include "fair_mutex.hpp"
#include "field_graph.hpp"
#include "indexer.hpp"
#include "linked_sets.hpp"
#include "row_map.hpp"
#include "types.hpp"
#include "vecdb.h"
#include "vectors.hpp"

namespace vecdb {

class Field final : public IndexedField, private KeyRows {
 public:
  struct Snapshot {
    RowMap::View map;
    CopyOnWrite<Bitset>::Lease live;
    std::uint64_t live_count = 0;
    FieldGraph::View graph;
  };

  // Throws Error invalid_argument for options that are none. state is the lock of the index, attributes what its offsets have; both
  // outlive the field.
  Field(std::uint32_t number, const vecdb_field& options, FairSharedMutex& state, const Attributes& attributes);

  std::uint32_t number() const { return number_; }
  Vectors& vectors() { return vectors_; }
  const Vectors& vectors() const { return vectors_; }
  const GraphOptions& options() const { return options_; }

  // REQUIRES the state lock, exclusively. check throws before anything is changed when the rows of these offsets are not stored; make_room
  // may throw std::bad_alloc; publish REQUIRES both.
  void check(std::uint32_t count, const std::uint8_t* present) const;
  void make_room(std::uint32_t count, const std::uint8_t* present);
  void publish(Offset first, std::uint32_t count, const std::uint8_t* present);
  void bury(Offset offset);

  // REQUIRES the state lock, shared.
  Snapshot snapshot() const;
  std::uint64_t live_count() const { return live_count_; }

  FieldGraph& graph() override { return graph_; }
  const FieldGraph& graph() const { return graph_; }
  LinkedSets& links() override { return links_; }
  const LinkedSets& links() const { return links_; }
  Row row_count() const { return rows_.load(std::memory_order_acquire); }
  FieldRows rows() const override { return {row_count(), live_rows_.load(std::memory_order_relaxed)}; }
  CopyOnWrite<Bitset>::Lease lease_live() const override;

 private:
  FairSharedMutex& state() const override { return state_; }
  GraphProfile profile() const override { return graph_.view().profile; }
  std::vector<Row> rows_with(const LinkKey& key) const override;
  std::uint64_t live_rows() const override { return live_count_; }
  std::optional<Row> row_of(Offset offset) const override { return map_.view().row_of(offset); }

  const std::uint32_t number_;
  const GraphOptions options_;
  FairSharedMutex& state_;
  const Attributes& attributes_;
  Vectors vectors_;
  RowMap map_;
  CopyOnWrite<Bitset> live_;  // by row
  std::uint64_t live_count_ = 0;
  std::atomic<Row> rows_{0};
  std::atomic<Row> live_rows_{0};  // live_count_, for those without the lock
  FieldGraph graph_;
  LinkedSets links_;
};

}  // namespace vecdb
