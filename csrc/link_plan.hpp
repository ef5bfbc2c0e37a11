// What a search through the links of tags would cost, beside what the plan without them costs.
// Everything here is a pure function of its arguments.
#pragma once

#include <cstdint>
#include <vector>

#include "linked_set.hpp"
#include "plan.hpp"

namespace vecdb {

// The sets that a search would walk over one after the other.
struct LinkShape {
  std::vector<std::uint64_t> members;      // of each
  std::uint64_t pending = 0;               // scanned, of all
  std::vector<LinkBreadth> breadths = {};  // of each of the first, as far as they were measured
};

struct LinkCost {
  Reach reach{0};
  std::size_t sets = 0;    // to be walked
  std::size_t enough = 0;  // hits
  double scan_ns = 0;      // of what is pending
  double total_ns = 0;
  double step_ns = 0;
};

// REQUIRES workload.cardinality != 0, and a known profile or workload.ef.
LinkCost link_cost(const Workload& workload, const LinkShape& shape);

// The plan through these links when it is cheaper than `without` and well within the budget of a walk; else `without`.
Plan better_plan(const Plan& without, const LinkCost& cost);

// Whether links of a shape would have made a clear difference to a search that went as planned.
bool is_clear_gain(const Plan& without, const LinkCost& cost);

}  // namespace vecdb
