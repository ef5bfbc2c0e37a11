// How far walks over links have to look, beside walks over the whole field: rows that have something in common may lie all over it, or in a
// corner, where neighbours are as many as in the whole, and where most queries come from afar.
//
// Thread rule: a pure function.
#pragma once

#include <atomic>
#include <optional>

#include "linked_set.hpp"
#include "profile.hpp"
#include "vectors.hpp"

namespace vecdb {

// Over the members that are linked, with members and other rows below `rows` as queries; of the others those that are farther off.
// Nothing when stop became true. REQUIRES linked members, and a known profile of the field.
std::optional<LinkBreadth> measure_links(const LinkedSet::View& set, const Vectors& vectors, Row rows, const GraphProfile& profile,
                                         const std::atomic<bool>& stop);

// This much farther than a reach.
Reach broadened(const Reach& reach, float breadth);

}  // namespace vecdb
