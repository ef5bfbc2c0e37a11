// vecdb's core without Python, through its C ABI as the extension uses it.
//
// Commands: create (dim m ef_construction seed coding threads), add (rows [tombstones]), wait, save (graph), load (graph), attach
// ([tag_offsets tags] [numbers] [places]), link, detach, run (queries k ef exact passes first count batch threads out
// [filter_of_query programs starts]), plan (k ef [filter programs starts]), latency (queries k seconds [rows]), stats. Only `latency` makes
// a thread here; the core's own workers index.
#include <atomic>
#include <memory>
#include <set>
#include <thread>

#include "core_calls.hpp"
#include "driver.hpp"
#include "vecdb.h"

namespace {

using bench::Answer;
using bench::check;
using bench::Command;
using bench::Hits;
using bench::Programs;

constexpr std::uint8_t kUuid[16] = {};
// The columns of a cell's numbers and places; filters.py writes the same into its programs.
constexpr std::uint32_t kNumber = 0;
constexpr std::uint32_t kPlace = 1;
constexpr std::size_t kAddedAtOnce = 10'000;
constexpr std::size_t kInsertedAtOnce = 100;

class Core {
 public:
  Answer create(const Command& command) {
    dim_ = static_cast<std::uint32_t>(command.number("dim"));
    count_ = 0;
    const vecdb_field field{dim_,
                            VECDB_COSINE,
                            static_cast<std::uint32_t>(command.number("m")),
                            static_cast<std::uint32_t>(command.number("ef_construction")),
                            command.number("seed"),
                            static_cast<std::uint32_t>(command.number("coding"))};
    index_.reset();
    vecdb_index* made = nullptr;
    check(vecdb_index_create(&field, 1, static_cast<std::uint32_t>(command.number("threads")), &made));
    index_.reset(made);
    return Answer();
  }

  Answer add(const Command& command) {
    const std::vector<float> rows = bench::read_array<float>(command.text("rows"));
    std::vector<std::uint32_t> dead;
    if (command.has("tombstones")) dead = bench::read_array<std::uint32_t>(command.text("tombstones"));
    const auto start = bench::Clock::now();
    vecdb_changes change{};
    change.first_offset = count_;
    change.tombstones = dead.data();
    change.tombstone_count = dead.size();
    if (!dead.empty()) check(vecdb_index_apply(index_.get(), &change, nullptr));
    const std::size_t count = rows.size() / dim_;
    for (std::size_t done = 0; done < count; done += kAddedAtOnce) insert(rows.data() + done * dim_, std::min(kAddedAtOnce, count - done));
    return Answer().add("seconds", bench::seconds_since(start)).add("first_offset", static_cast<double>(count_ - count));
  }

  Answer wait(const Command&) {
    const auto start = bench::Clock::now();
    std::uint32_t done = 0;
    while (done == 0) check(vecdb_index_wait_indexed(index_.get(), 60'000, &done));
    return Answer().add("seconds", bench::seconds_since(start));
  }

  Answer save(const Command& command) {
    std::uint64_t size = 0;
    const vecdb_status status = vecdb_index_save_graph(index_.get(), 0, kUuid, 0, 0, nullptr, 0, &size);
    if (status == VECDB_NOT_FOUND) return Answer().add("bytes", 0);
    check(status);
    std::vector<std::uint8_t> buffer(size);
    check(vecdb_index_save_graph(index_.get(), 0, kUuid, 0, 0, buffer.data(), buffer.size(), &size));
    bench::write_array(command.text("graph"), buffer);
    return Answer().add("bytes", static_cast<double>(size));
  }

  Answer load(const Command& command) {
    const std::vector<std::uint8_t> buffer = bench::read_array<std::uint8_t>(command.text("graph"));
    std::uint64_t lsn = 0;
    std::uint64_t rows = 0;
    check(vecdb_index_load_graph(index_.get(), 0, kUuid, 0, buffer.data(), buffer.size(), &lsn, &rows));
    return Answer().add("rows", static_cast<double>(rows));
  }

  Answer attach(const Command& command) {
    vecdb_changes change{};
    change.first_offset = count_;
    std::vector<std::uint32_t> tag_offsets;
    std::vector<std::uint64_t> tags;
    if (command.has("tags")) {
      tag_offsets = bench::read_array<std::uint32_t>(command.text("tag_offsets"));
      tags = bench::read_array<std::uint64_t>(command.text("tags"));
    }
    change.tag_added_offsets = tag_offsets.data();
    change.tag_added = tags.data();
    change.tag_added_count = tags.size();
    const bench::Numbers numbers(command, kNumber);
    numbers.put(change);
    const bench::Places places(command, kPlace);
    places.put(change);
    const auto start = bench::Clock::now();
    check(vecdb_index_apply(index_.get(), &change, nullptr));
    attached_tags_.insert(tags.begin(), tags.end());
    if (command.has("numbers")) attached_columns_.insert(kNumber);
    if (command.has("places")) attached_columns_.insert(kPlace);
    return Answer().add("seconds", bench::seconds_since(start));
  }

  // Ask for links of all tags that were attached.
  Answer link(const Command&) {
    const std::vector<std::uint64_t> tags(attached_tags_.begin(), attached_tags_.end());
    check(vecdb_index_link_tags(index_.get(), 0, tags.data(), tags.size(), 0));
    return Answer();
  }

  Answer detach(const Command&) {
    const std::vector<std::uint64_t> tags(attached_tags_.begin(), attached_tags_.end());
    check(vecdb_index_drop_tags(index_.get(), tags.data(), tags.size()));
    for (const std::uint32_t column : attached_columns_) check(vecdb_index_drop_column(index_.get(), column));
    attached_tags_.clear();
    attached_columns_.clear();
    return Answer();
  }

  Answer run(const Command& command) {
    const std::vector<float> queries = bench::read_array<float>(command.text("queries"));
    const Programs programs(command);
    const std::size_t k = command.number("k");
    const std::size_t first = command.number("first");
    const std::size_t last = std::min<std::size_t>(first + command.number("count"), queries.size() / dim_);
    const std::size_t batch = command.number("batch", 1);
    if (batch > 1 && !programs.words.empty()) throw std::runtime_error("a batch has one filter: run filtered queries one by one");
    vecdb_search search = asked(command);
    Hits hits(batch, k);
    std::vector<std::uint32_t> found((last - first) * k, bench::kNoHit);
    Answer answer = bench::timed_passes(command, first, last, batch, [&](std::size_t i) {
      search.queries = queries.data() + i * dim_;
      search.query_count = std::min(batch, last - i);
      if (!programs.words.empty()) programs.set(search, programs.of_query.at(i));
      check(vecdb_index_search(index_.get(), &search, hits.offsets.data(), hits.ids.data(), hits.kinds.data(), hits.scores.data(),
                               hits.counts.data(), nullptr));
      for (std::size_t q = 0; q < search.query_count; ++q) {
        std::copy_n(hits.offsets.data() + q * k, hits.counts[q], found.data() + (i + q - first) * k);
      }
    });
    bench::write_array(command.text("out"), found);
    return answer;
  }

  Answer plan(const Command& command) {
    const Programs programs(command);
    vecdb_search search = asked(command);
    programs.set(search, command.number("filter", 0));
    vecdb_plan plan{};
    check(vecdb_index_plan(index_.get(), &search, &plan));
    return Answer()
        .add("strategy", plan.strategy)
        .add("ef", plan.ef)
        .add("cardinality", static_cast<double>(plan.cardinality))
        .add("tail", static_cast<double>(plan.tail))
        .add("cost_exact_ns", plan.cost_exact_ns)
        .add("cost_graph_ns", plan.cost_graph_ns);
  }

  // Single searches for some seconds; beside a thread that inserts at full speed when rows are given, and then while they last.
  Answer latency(const Command& command) {
    const std::vector<float> queries = bench::read_array<float>(command.text("queries"));
    std::vector<float> rows;
    if (command.has("rows")) rows = bench::read_array<float>(command.text("rows"));
    const std::size_t k = command.number("k");
    const auto seconds = static_cast<double>(command.number("seconds"));
    std::atomic<bool> stop{false};
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> inserted{0};
    std::string failure;
    std::thread inserter([&] {
      try {
        for (std::size_t row = 0; !stop && row + kInsertedAtOnce <= rows.size() / dim_; row += kInsertedAtOnce) {
          insert(rows.data() + row * dim_, kInsertedAtOnce);
          std::uint32_t helped = 0;
          check(vecdb_index_help(index_.get(), kInsertedAtOnce, &helped));
          inserted += kInsertedAtOnce;
        }
      } catch (const std::exception& error) {
        failure = error.what();
      }
      done = !rows.empty();
    });
    vecdb_search search = asked(command);
    Hits hits(1, k);
    std::vector<double> micros;
    const auto start = bench::Clock::now();
    vecdb_status status = VECDB_OK;
    for (std::size_t i = 0; status == VECDB_OK && !done && bench::seconds_since(start) < seconds; i = (i + 1) % (queries.size() / dim_)) {
      search.queries = queries.data() + i * dim_;
      search.query_count = 1;
      const auto begin = bench::Clock::now();
      status = vecdb_index_search(index_.get(), &search, hits.offsets.data(), hits.ids.data(), hits.kinds.data(), hits.scores.data(),
                                  hits.counts.data(), nullptr);
      micros.push_back(bench::seconds_since(begin) * 1e6);
    }
    const double took = bench::seconds_since(start);
    const std::uint64_t inserted_meanwhile = inserted;
    stop = true;
    inserter.join();
    check(status);
    if (!failure.empty()) throw std::runtime_error(failure);
    Answer answer;
    answer.add("seconds", took).add("inserted", static_cast<double>(inserted_meanwhile));
    bench::add_latencies(answer, std::move(micros));
    return answer;
  }

  Answer stats(const Command&) {
    vecdb_index_stats all{};
    vecdb_field_stats field{};
    vecdb_graph_report graph{};
    check(vecdb_index_check_graph(index_.get(), 0, &graph));
    check(vecdb_index_get_stats(index_.get(), &all));
    check(vecdb_index_get_field_stats(index_.get(), 0, &field));
    Answer answer;
    for (const auto& [key, value] : std::vector<std::pair<std::string, std::uint64_t>>{{"live", all.live},
                                                                                       {"rows", field.rows},
                                                                                       {"indexed_rows", field.indexed_rows},
                                                                                       {"id_bytes", all.id_bytes},
                                                                                       {"tag_bytes", all.tag_bytes},
                                                                                       {"column_bytes", all.column_bytes},
                                                                                       {"vector_bytes", field.vector_bytes},
                                                                                       {"norm_bytes", field.norm_bytes},
                                                                                       {"code_bytes", field.code_bytes},
                                                                                       {"graph_bytes", field.graph_bytes},
                                                                                       {"linked_tags", field.linked_tags},
                                                                                       {"link_bytes", field.link_bytes},
                                                                                       {"unreachable", graph.unreachable}}) {
      answer.add(key, static_cast<double>(value));
    }
    return answer;
  }

 private:
  struct Destroy {
    void operator()(vecdb_index* index) const { vecdb_index_destroy(index); }
  };

  static vecdb_search asked(const Command& command) {
    vecdb_search search{};
    search.k = static_cast<std::uint32_t>(command.number("k"));
    search.ef = static_cast<std::uint32_t>(command.number("ef", 0));
    search.exact = static_cast<std::uint32_t>(command.number("exact", 0));
    search.threads = static_cast<std::uint32_t>(command.number("threads", 1));
    return search;
  }

  void insert(const float* rows, std::size_t count) {
    std::vector<std::uint64_t> ids(count);
    for (std::size_t i = 0; i < count; ++i) ids[i] = count_ + i;
    const std::vector<std::uint8_t> kinds(count, VECDB_ID_INT);
    const std::vector<std::uint8_t> present(count, 1);
    vecdb_changes change{};
    change.first_offset = count_;
    change.count = static_cast<std::uint32_t>(count);
    change.ids = ids.data();
    change.id_kinds = kinds.data();
    change.present = present.data();
    check(vecdb_index_append_rows(index_.get(), 0, rows, count));
    check(vecdb_index_apply(index_.get(), &change, nullptr));
    count_ += static_cast<std::uint32_t>(count);
  }

  std::unique_ptr<vecdb_index, Destroy> index_;
  std::uint32_t dim_ = 0;
  std::uint32_t count_ = 0;
  std::set<std::uint64_t> attached_tags_;
  std::set<std::uint32_t> attached_columns_;
};

}  // namespace

int main() {
  Core core;
  bench::Handlers handlers;
  const auto handle = [&](const char* name, Answer (Core::*method)(const Command&)) {
    handlers[name] = [&core, method](const Command& command) { return (core.*method)(command); };
  };
  handle("create", &Core::create);
  handle("add", &Core::add);
  handle("wait", &Core::wait);
  handle("save", &Core::save);
  handle("load", &Core::load);
  handle("attach", &Core::attach);
  handle("link", &Core::link);
  handle("detach", &Core::detach);
  handle("run", &Core::run);
  handle("plan", &Core::plan);
  handle("latency", &Core::latency);
  handle("stats", &Core::stats);
  return bench::serve(handlers);
}
