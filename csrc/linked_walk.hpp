// A search over the links of tags: a walk in each set, and a scan of the matching rows that wait to be linked.
//
// Thread rule: LinkedRows is made once a call and read by all threads of it; nearest is re-entrant.
#pragma once

#include <cstdint>
#include <vector>

#include "linked_sets.hpp"
#include "plan.hpp"
#include "search.hpp"
#include "vectors.hpp"

namespace vecdb {

struct LinkedRows {
  LinkCover cover;
  std::vector<Row> pending;  // matching ones, ascending, each once
  bool is_whole = false;     // every member of the only set matches
};

// Offers the nearest matching rows to out. False when the budget was used up: out holds nothing to be used then.
bool search_links(const LinkedRows& links, const Vectors& vectors, const Query& query, const RowSet& allowed, const Plan& plan,
                  Scratch& scratch, Ranking& out);

}  // namespace vecdb
