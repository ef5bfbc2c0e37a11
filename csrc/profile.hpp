// What walks and scans cost on a graph and its data, and what follows from it: how far a walk has to look for a recall of 0.95.
//
// Invariant: a reach and its cost grow with k. Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "search.hpp"
#include "types.hpp"

namespace vecdb {

struct GraphProfile {
  Node nodes = 0;  // how many the graph had when this was measured; 0: not measured
  // The plain beam that recall 0.95 needs for k = 10 and k = 100, and the distances that a walk with it computes.
  std::uint32_t ef10 = 0;
  std::uint32_t ef100 = 0;
  float distances10 = 0;
  float distances100 = 0;
  // Nanoseconds of one thread.
  float stream_ns = 0;  // a row of a scan over all
  float gather_ns = 0;  // a row of a scan over few
  float step_ns = 0;    // a distance of a walk, with its share of everything else
  // The bound that, with a beam kRoom times as wide, needs fewer distances for the same recall; Reach::kNoFactor where none does.
  float factor10 = Reach::kNoFactor;
  float factor100 = Reach::kNoFactor;
  float bounded10 = 0;  // distances with the bound
  float bounded100 = 0;
  float largest_norm = 0;  // of the rows; under dot
  // Of a scan, too, but a row's share of each of kTileQueries queries that are scanned for at once.
  float tile_stream_ns = 0;
  float tile_gather_ns = 0;

  static constexpr double kRoom = 2;

  bool is_known() const { return nodes != 0; }
};

// Whether measure_profile could have given this: a file may say anything.
bool is_plausible(const GraphProfile& profile);

// What to reckon with where nothing was measured.
GraphProfile nominal_profile(std::uint32_t dim);

// How far a walk looks, and the distances that it computes for it. Where a share p of what it meets is allowed, the kth best hit is the
// (k / p)th best of all, so that what was measured for other k tells what a filter costs.
struct Prospect {
  Reach reach;
  Expectation distances;
};

// For recall 0.95 at this k in a graph of so many nodes. REQUIRES profile.is_known().
Prospect default_prospect(const GraphProfile& profile, std::uint32_t k, Node nodes);

// For a plain beam.
Prospect beam_prospect(const GraphProfile& profile, std::uint32_t ef);

}  // namespace vecdb
