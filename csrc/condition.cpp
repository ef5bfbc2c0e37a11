// A program is walked twice: once by Checker, which trusts nothing, once by Evaluator, which trusts Checker.

#include "condition.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "error.hpp"
#include "offset_set.hpp"
#include "vecdb.h"

namespace vecdb {

namespace {

constexpr std::uint64_t kRangeOperands = 6;  // column, bounds, lo, lo_rest, hi, hi_rest

double as_double(std::uint64_t word) {
  double value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

std::int64_t as_int(std::uint64_t word) {
  std::int64_t value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

// Walks the words of a program, once to check it and once to run it.
class Checker {
 public:
  Checker(const std::uint64_t* words, std::uint64_t size, Operands operands) : words_(words), size_(size), operands_(operands) {}

  void run() {
    while (at_ < size_) {
      start_ = at_;
      step(take("an operation"));
    }
    if (size_ != 0 && depth_ != 1) {
      throw Error(Code::invalid_argument, "the filter program leaves " + std::to_string(depth_) + " sets, expected exactly 1");
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Code::invalid_argument, "filter program, word " + std::to_string(start_) + ": " + what);
  }

  std::uint64_t take(const char* what) {
    if (at_ == size_) fail(std::string("the program ends where ") + what + " is expected");
    return words_[at_++];
  }

  const std::uint64_t* take_many(std::uint64_t count, const char* what) {
    if (count > size_ - at_) {
      fail(std::to_string(count) + " " + what + " are announced, " + std::to_string(size_ - at_) + " words are left");
    }
    const std::uint64_t* first = words_ + at_;
    at_ += count;
    return first;
  }

  void pop(std::uint64_t count) {
    if (count > depth_) fail("needs " + std::to_string(count) + " sets, " + std::to_string(depth_) + " are on the stack");
    depth_ -= count;
  }

  void need_all_operands(const char* name) const {
    if (operands_ != Operands::all) fail(std::string(name) + " is not allowed here: this index has tags only");
  }

  void step(std::uint64_t operation) {
    switch (operation) {
      case VECDB_OP_ALL:
      case VECDB_OP_NONE:
        break;
      case VECDB_OP_TAG:
        take("a tag");
        break;
      case VECDB_OP_ANY_TAG:
        take_many(take("a number of tags"), "tags");
        break;
      case VECDB_OP_RANGE:
        need_all_operands("RANGE");
        check_range(take_many(kRangeOperands, "operands of RANGE"));
        break;
      case VECDB_OP_GEO: {
        need_all_operands("GEO");
        const std::uint64_t* head = take_many(2, "operands of GEO");
        const std::uint64_t count = take("a number of operands of the area");
        check_area(head[0], head[1], take_many(count, "operands of the area"), count);
        break;
      }
      case VECDB_OP_OFFSETS:
        need_all_operands("OFFSETS");
        check_offsets();
        break;
      case VECDB_OP_AND:
      case VECDB_OP_OR:
        pop(take("a number of sets"));
        break;
      case VECDB_OP_AT_LEAST: {
        const std::uint64_t count = take("a number of sets");
        take("a minimum");
        pop(count);
        break;
      }
      case VECDB_OP_NOT:
        pop(1);
        break;
      default:
        fail("operation " + std::to_string(operation) + " is unknown, expected one of vecdb_op");
    }
    ++depth_;
  }

  void check_range(const std::uint64_t* operands) const {
    if (operands[0] > UINT32_MAX) fail("column " + std::to_string(operands[0]) + " is beyond 32 bits");
    constexpr std::uint64_t kKnown = VECDB_BOUND_GT | VECDB_BOUND_GTE | VECDB_BOUND_LT | VECDB_BOUND_LTE;
    const std::uint64_t bounds = operands[1];
    if ((bounds & ~kKnown) != 0) fail("bounds " + std::to_string(bounds) + " are not an OR of vecdb_bound values");
    if ((bounds & (VECDB_BOUND_GT | VECDB_BOUND_GTE)) != 0 && std::isnan(as_double(operands[2]))) fail("the lower bound is NaN");
    if ((bounds & (VECDB_BOUND_LT | VECDB_BOUND_LTE)) != 0 && std::isnan(as_double(operands[4]))) fail("the upper bound is NaN");
  }

  void check_area(std::uint64_t column, std::uint64_t shape, const std::uint64_t* operands, std::uint64_t count) const {
    if (column > UINT32_MAX) fail("column " + std::to_string(column) + " is beyond 32 bits");
    const std::string problem = GeoArea::problem_with(shape, operands, count);
    if (!problem.empty()) fail(problem);
  }

  void check_offsets() {
    const std::uint64_t count = take("a number of offsets");
    const std::uint64_t* offsets = take_many(count, "offsets");
    for (std::uint64_t i = 0; i < count; ++i) {
      if (offsets[i] > UINT32_MAX) fail("offset " + std::to_string(offsets[i]) + " is beyond 32 bits");
      if (i > 0 && offsets[i] <= offsets[i - 1]) {
        fail("offset " + std::to_string(offsets[i]) + " follows " + std::to_string(offsets[i - 1]) + ", expected ascending offsets");
      }
    }
  }

  const std::uint64_t* words_;
  const std::uint64_t size_;
  const Operands operands_;
  std::uint64_t at_ = 0;
  std::uint64_t start_ = 0;
  std::uint64_t depth_ = 0;
};

class Evaluator {
 public:
  explicit Evaluator(const Catalogue& catalogue) : catalogue_(catalogue), universe_(catalogue.live.size()) {}

  OffsetSet run(const Program& program) {
    const std::uint64_t* at = program.words();
    const std::uint64_t* const end = at + program.size();
    for (; at < end; at += operation_size(at)) step(at);
    return std::move(stack_.back());
  }

 private:
  // Runs the operation at this word.
  void step(const std::uint64_t* at) {
    switch (*at) {
      case VECDB_OP_ALL:
        stack_.push_back(OffsetSet::all());
        break;
      case VECDB_OP_NONE:
        stack_.push_back(OffsetSet::none());
        break;
      case VECDB_OP_TAG:
        stack_.push_back(OffsetSet::borrow(catalogue_.tags.find(at[1])));
        break;
      case VECDB_OP_ANY_TAG:
        stack_.push_back(any_tag(at + 2, at[1]));
        break;
      case VECDB_OP_RANGE:
        stack_.push_back(in_range(at));
        break;
      case VECDB_OP_GEO:
        stack_.push_back(in_area(at + 1));
        break;
      case VECDB_OP_OFFSETS:
        stack_.push_back(offsets(at + 2, at[1]));
        break;
      case VECDB_OP_AND:
        stack_.push_back(intersection(pop(at[1]), universe_));
        break;
      case VECDB_OP_OR:
        stack_.push_back(union_of(pop(at[1]), universe_));
        break;
      case VECDB_OP_AT_LEAST:
        stack_.push_back(in_at_least(pop(at[1]), at[2], universe_));
        break;
      default:  // NOT: a Program holds no other words
        stack_.back() = std::move(stack_.back()).complement();
        break;
    }
  }

  std::vector<OffsetSet> pop(std::uint64_t count) {
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<OffsetSet> sets(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
    stack_.erase(first, stack_.end());
    return sets;
  }

  OffsetSet any_tag(const std::uint64_t* tags, std::uint64_t count) const {
    std::vector<OffsetSet> sets;
    for (std::uint64_t i = 0; i < count; ++i) {
      const Posting* posting = catalogue_.tags.find(tags[i]);
      if (posting != nullptr) sets.push_back(OffsetSet::borrow(posting));
    }
    return union_of(std::move(sets), universe_);
  }

  OffsetSet in_range(const std::uint64_t* at) const {
    const Column* column = catalogue_.columns->find(static_cast<std::uint32_t>(at[1]));
    if (column == nullptr) return OffsetSet::none();
    const ColumnRange range = range_at(at);
    const std::uint64_t most = column->count_at_most(range);
    if (!fits_list(most, universe_)) {
      Bitset bits(universe_);
      column->for_each(range, [&](Offset offset) { bits.set(offset); });
      return OffsetSet::of_bits(std::move(bits));
    }
    std::vector<Offset> found;
    found.reserve(most);
    column->for_each(range, [&](Offset offset) { found.push_back(offset); });
    return sorted_set(std::move(found), universe_);
  }

  OffsetSet in_area(const std::uint64_t* operands) const {
    const GeoColumn* column = catalogue_.points->find(static_cast<std::uint32_t>(operands[0]));
    if (column == nullptr) return OffsetSet::none();
    return column->inside(GeoArea(operands[1], operands + 3, operands[2]), universe_);
  }

  // Offsets that a later state handed out are dropped here, dead ones at the end.
  OffsetSet offsets(const std::uint64_t* words, std::uint64_t count) const {
    std::vector<Offset> found;
    for (std::uint64_t i = 0; i < count && words[i] < universe_; ++i) found.push_back(static_cast<Offset>(words[i]));
    return OffsetSet::of_list(std::move(found));
  }

  const Catalogue& catalogue_;
  const Offset universe_;
  std::vector<OffsetSet> stack_;
};

Selection everything(const Catalogue& catalogue) {
  Selection selection;
  selection.count = catalogue.live_count;
  return selection;
}

Selection select_list(std::vector<Offset> offsets) {
  Selection selection;
  selection.form = Selection::Form::list;
  selection.count = offsets.size();
  selection.list = std::move(offsets);
  return selection;
}

Selection select_bits(Bitset bits) {
  const std::uint64_t count = bits.count();
  if (fits_list(count, bits.size())) return select_list(bits.positions(count));
  Selection selection;
  selection.form = Selection::Form::bits;
  selection.count = count;
  selection.bits = std::move(bits);
  return selection;
}

}  // namespace

Program::Program(const std::uint64_t* words, std::uint64_t size, Operands operands) : words_(words), size_(static_cast<std::size_t>(size)) {
  Checker(words, size, operands).run();
}

std::size_t operation_size(const std::uint64_t* at) {
  switch (*at) {
    case VECDB_OP_TAG:
    case VECDB_OP_AND:
    case VECDB_OP_OR:
      return 2;
    case VECDB_OP_AT_LEAST:
      return 3;
    case VECDB_OP_ANY_TAG:
    case VECDB_OP_OFFSETS:
      return 2 + static_cast<std::size_t>(at[1]);
    case VECDB_OP_RANGE:
      return 1 + kRangeOperands;
    case VECDB_OP_GEO:
      return 4 + static_cast<std::size_t>(at[3]);
    default:  // ALL, NONE, NOT: a Program holds no other words
      return 1;
  }
}

ColumnRange range_at(const std::uint64_t* at) {
  ColumnRange range;
  const std::uint64_t bounds = at[2];
  if ((bounds & VECDB_BOUND_GTE) != 0) range.low_kind = BoundKind::inclusive;
  if ((bounds & VECDB_BOUND_GT) != 0) range.low_kind = BoundKind::exclusive;
  if ((bounds & VECDB_BOUND_LTE) != 0) range.high_kind = BoundKind::inclusive;
  if ((bounds & VECDB_BOUND_LT) != 0) range.high_kind = BoundKind::exclusive;
  if (range.low_kind != BoundKind::open) range.low = {as_double(at[3]), as_int(at[4])};
  if (range.high_kind != BoundKind::open) range.high = {as_double(at[5]), as_int(at[6])};
  return range;
}

Selection evaluate(const Program& program, const Catalogue& catalogue) {
  if (program.is_all()) return everything(catalogue);
  OffsetSet set = Evaluator(catalogue).run(program);
  if (set.is_complement()) {
    if (set.is_list() && set.list_size() == 0) return everything(catalogue);
    Bitset bits = catalogue.live;
    if (set.is_list()) {
      set.for_each_listed([&](Offset offset) { bits.reset(offset); });
    } else {
      bits.and_not(set.bits());
    }
    return select_bits(std::move(bits));
  }
  if (!set.is_list()) {
    Bitset bits = std::move(set).take_bits();
    bits.resize(catalogue.live.size());
    if (!catalogue.all_live()) bits.and_with(catalogue.live);
    return select_bits(std::move(bits));
  }
  std::vector<Offset> offsets = std::move(set).take_list();
  if (!catalogue.all_live()) {
    const auto is_dead = [&](Offset offset) { return !catalogue.live.contains(offset); };
    offsets.erase(std::remove_if(offsets.begin(), offsets.end(), is_dead), offsets.end());
  }
  return select_list(std::move(offsets));
}

std::uint64_t count_matches(const Program& program, const Catalogue& catalogue) {
  if (program.is_all()) return catalogue.live_count;
  const OffsetSet set = Evaluator(catalogue).run(program);
  std::uint64_t listed = 0;
  if (!set.is_list()) {
    listed = set.bits().count_and(catalogue.live);
  } else if (catalogue.all_live()) {
    listed = set.list_size();
  } else {
    set.for_each_listed([&](Offset offset) { listed += catalogue.live.contains(offset) ? 1 : 0; });
  }
  return set.is_complement() ? catalogue.live_count - listed : listed;
}

}  // namespace vecdb
