// Runs the queries of one call over one snapshot of a field, along a plan that was made for them.
//
// Invariant: every query gets exactly min(k, cardinality) hits; a walk that gives up or finds fewer is followed by an exact scan.
// Thread rule: run may be called from many threads, each with queries of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bitset.hpp"
#include "condition.hpp"
#include "field.hpp"
#include "ids.hpp"
#include "linked_walk.hpp"
#include "plan.hpp"
#include "search.hpp"
#include "types.hpp"

namespace vecdb {

// The live rows of a field that satisfy a program.
struct RowSelection {
  Selection::Form form = Selection::Form::all;
  std::uint64_t count = 0;
  std::vector<Row> list;
  Bitset bits;
};

// Takes what can be taken over from the offsets.
RowSelection rows_of(Selection offsets, const Field::Snapshot& field);

// query_count rows of k.
struct SearchOutput {
  std::uint32_t* offsets;
  std::uint64_t* ids;
  std::uint8_t* id_kinds;
  float* scores;
  std::uint32_t* counts;
};

class Searcher {
 public:
  // All must outlive the searcher.
  struct Parts {
    const Vectors& vectors;
    const Ids& ids;
    const Field::Snapshot& field;
    ScratchPool& scratches;
    const LinkedRows* links = nullptr;  // of a plan that walks over links
  };

  Searcher(const Parts& parts, std::shared_ptr<const RowSelection> selection, const Plan& plan, std::uint32_t k, Accuracy accuracy);

  // Queries [first, last) of a call.
  void run(const float* queries, std::uint64_t first, std::uint64_t last, const SearchOutput& out) const;

 private:
  // Equal scores come in the order of ids.
  class Ties final : public TieBreak {
   public:
    explicit Ties(const Parts& parts) : parts_(parts) {}
    bool before(Row a, Row b) const override { return parts_.ids.before(parts_.field.map.offset_of(a), parts_.field.map.offset_of(b)); }

   private:
    const Parts& parts_;
  };

  RowSet allowed(Row limit) const;
  // query: one or a tile of them, with its ranking or rankings.
  template <class Asked, class Rankings>
  void scan(const Asked& asked, Row first, Row last, Rankings&& rankings) const;
  template <class AnyQuery>
  void scan_together(const std::vector<AnyQuery>& queries, std::vector<Ranking>& rankings) const;
  void scan_tail(const Query& query, Ranking& ranking) const;
  bool walk(const Query& query, Ranking& ranking) const;
  void write(Ranking& ranking, std::uint64_t query, const SearchOutput& out) const;

  const Parts parts_;
  const std::shared_ptr<const RowSelection> selection_;
  Bitset bits_of_list_;  // of a walk over a list
  const Plan plan_;
  const std::uint32_t k_;
  const bool uses_codes_;
  const Ties ties_;
};

}  // namespace vecdb
