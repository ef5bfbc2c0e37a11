// Interpolation between what was measured.

#include "profile.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vecdb {

namespace {

constexpr double kFew = 10;
constexpr double kMany = 100;

// A walk's distances grow with about this power of ef: 0.85 on glove100 and wordnet alike.
constexpr double kDistancesExponent = 0.85;
// ef grows with this power of the nodes: 0.36 on glove100 (12,000 to 200,000), 0.49 on normal noise in 64 dimensions.
constexpr double kGrowth = 0.42;
// In a smaller graph it falls with less, to be on the safe side: 0.33 on glove100 (100,000 to 5,000 rows).
constexpr double kShrinkage = 0.32;
// A bound holds in graphs of up to so many times the nodes that it was measured on.
constexpr double kBoundHolds = 3;
// A walk under a filter costs more than one without, by at least this power of the share that passes.
constexpr double kLeastGrowth = 0.15;
// The bound of a hundred may be as tight as can be tried, which says little of that of a thousand.
constexpr double kMostThinning = 0.5;
// ef grows with this power of k beyond 100, but it stays above k by a share.
constexpr double kGrowthWithK = 0.75;
constexpr double kOverK = 1.25;
// How much farther than the profile says is looked for k = 100: recall of queries that are no rows falls short of that of rows by more than
// at k = 10 (.946 without it on clusters in 128 and in 384 dimensions).
constexpr double kMarginOfMany = 0.07;

// Where k lies between 10 and 100, and by how much it exceeds 100.
struct Place {
  explicit Place(double k) : position(std::clamp(std::log10(std::max(k, kFew) / kFew), 0.0, 1.0)), excess(std::max(1.0, k / kMany)) {}

  double between(double at_few, double at_many) const { return at_few * std::pow(at_many / at_few, position); }
  // Data whose clusters hold less than 100 rows are hard for what looks beyond them: so most of the way is gone early.
  double early_between(double at_few, double at_many) const { return at_few * std::pow(at_many / at_few, std::sqrt(position)); }

  double position;
  double excess;
};

// Eight queries at once against one by one: 3.7 of glove100 by codes and by rows, 4.4 and more of 384 dimensions.
constexpr float kTileGain = 3.7F;

// The power of k that leads from k = 10 to k = 100.
double exponent_of(double at_few, double at_many) { return std::clamp(std::log10(at_many / at_few), kLeastGrowth, 1.0); }

float thinning_of(const GraphProfile& profile) {
  const double excess10 = static_cast<double>(profile.factor10) - 1;
  const double excess100 = static_cast<double>(profile.factor100) - 1;
  if (excess10 <= excess100 || excess100 <= 0) return excess100 <= 0 ? static_cast<float>(kMostThinning) : 0.0F;
  return static_cast<float>(std::min(kMostThinning, std::log10(excess10 / excess100)));
}

}  // namespace

bool is_plausible(const GraphProfile& profile) {
  const auto is_cost = [](float value) { return value >= 0.1F && value <= 1e9F; };
  const auto is_factor = [](float value) { return value >= 1 && value <= Reach::kNoFactor; };
  return profile.ef10 >= 1 && profile.ef100 >= profile.ef10 && is_cost(profile.distances10) && is_cost(profile.distances100) &&
         profile.distances100 >= profile.distances10 && is_cost(profile.stream_ns) && is_cost(profile.gather_ns) &&
         is_cost(profile.step_ns) && is_cost(profile.tile_stream_ns) && is_cost(profile.tile_gather_ns) && is_factor(profile.factor10) &&
         is_factor(profile.factor100) && is_cost(profile.bounded10) && is_cost(profile.bounded100) && profile.largest_norm >= 0 &&
         profile.largest_norm <= std::numeric_limits<float>::max();
}

GraphProfile nominal_profile(std::uint32_t dim) {
  // As measured for 100 and 384 dimensions of glove100 and wordnet.
  const float bytes = static_cast<float>(dim) * sizeof(float);
  GraphProfile profile{1, 100, 250, 1700, 3700, 6 + 0.04F * bytes, 30 + 0.1F * bytes, 60 + 0.12F * bytes};
  profile.bounded10 = profile.distances10;
  profile.bounded100 = profile.distances100;
  profile.tile_stream_ns = profile.stream_ns / kTileGain;
  profile.tile_gather_ns = profile.gather_ns / kTileGain;
  return profile;
}

Prospect default_prospect(const GraphProfile& profile, std::uint32_t k, Node nodes) {
  const Place place(k);
  const double size = std::max<double>(nodes, 1) / profile.nodes;
  const double margin = 1 + kMarginOfMany * place.position;
  const double growth = std::pow(size, size < 1 ? kShrinkage : kGrowth) * std::pow(place.excess, kGrowthWithK) * margin;
  const double distances_growth = std::pow(growth, kDistancesExponent);
  const double ef = std::max(place.early_between(profile.ef10, profile.ef100) * growth, kOverK * k);
  const auto rounded = [](double value) { return static_cast<std::uint32_t>(std::min<double>(std::ceil(value), UINT32_MAX)); };
  const bool has_bound =
      size <= kBoundHolds && profile.factor10 != Reach::kNoFactor && (k <= kFew || profile.factor100 != Reach::kNoFactor);
  const auto expectation = [&](double at_few, double at_many) {
    return Expectation{place.between(at_few, at_many) * distances_growth, exponent_of(at_few, at_many),
                       std::min(1.0, std::max<double>(k, kFew) / kMany), kGrowthWithK * kDistancesExponent};
  };
  if (!has_bound) return {Reach(rounded(ef)), expectation(profile.distances10, profile.distances100)};
  const float measured = profile.factor10 + static_cast<float>(place.position) * (profile.factor100 - profile.factor10);
  const float factor = 1 + (measured - 1) * static_cast<float>(margin);
  const bool has_both = profile.factor100 != Reach::kNoFactor;
  const float thinning = has_both ? thinning_of(profile) : 0.0F;
  return {Reach(rounded(ef * GraphProfile::kRoom), k <= kFew ? profile.factor10 : factor, profile.largest_norm, thinning),
          expectation(profile.bounded10, profile.bounded100)};
}

Prospect beam_prospect(const GraphProfile& profile, std::uint32_t ef) {
  const double span = static_cast<double>(profile.ef100) / profile.ef10;
  const double growth = static_cast<double>(profile.distances100) / profile.distances10;
  const double exponent = std::clamp(span > 1.5 ? std::log(growth) / std::log(span) : kDistancesExponent, 0.5, 1.0);
  return {Reach(ef), {profile.distances10 * std::pow(static_cast<double>(ef) / profile.ef10, exponent), exponent, 0, exponent}};
}

}  // namespace vecdb
