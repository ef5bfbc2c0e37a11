// The baseline: hnswlib 0.8.0 as it comes, driven without Python; cosine as inner product over normalised rows, a bitset filter functor.
//
// Commands: build (rows dim m ef_construction seed threads graph), load (graph dim rows), run (queries k ef passes first count out
// [filter_of_query bitmaps words]), read (bytes passes). Only `build` uses more than the calling thread.
#include <hnswlib/hnswlib.h>
#include <malloc.h>
#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "driver.hpp"

namespace {

using bench::Answer;
using bench::Command;
using Graph = hnswlib::HierarchicalNSW<float>;

constexpr std::size_t kHugePage = std::size_t{1} << 21;

class BitsetFilter : public hnswlib::BaseFilterFunctor {
 public:
  explicit BitsetFilter(const std::uint64_t* bits) : bits_(bits) {}
  bool operator()(hnswlib::labeltype id) override { return (bits_[id >> 6] >> (id & 63) & 1) != 0; }

 private:
  const std::uint64_t* bits_;
};

// Of the main arena: REQUIRES that no other thread has allocated.
std::size_t heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

class Stock {
 public:
  Answer build(const Command& command) {
    const std::vector<float> rows = bench::read_array<float>(command.text("rows"));
    dim_ = command.number("dim");
    const std::size_t count = rows.size() / dim_;
    space_ = std::make_unique<hnswlib::InnerProductSpace>(dim_);
    graph_.reset();
    const auto start = bench::Clock::now();
    graph_ = std::make_unique<Graph>(space_.get(), count, command.number("m"), command.number("ef_construction"), command.number("seed"));
    std::atomic<std::size_t> next{0};
    const auto insert = [&] {
      for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) graph_->addPoint(rows.data() + i * dim_, i);
    };
    std::vector<std::thread> helpers;
    for (std::uint64_t i = 1; i < command.number("threads"); ++i) helpers.emplace_back(insert);
    insert();
    for (std::thread& helper : helpers) helper.join();
    Answer answer;
    answer.add("seconds", bench::seconds_since(start));
    if (command.has("graph")) graph_->saveIndex(command.text("graph"));
    return answer;
  }

  Answer load(const Command& command) {
    dim_ = command.number("dim");
    space_ = std::make_unique<hnswlib::InnerProductSpace>(dim_);
    const std::size_t heap_before = heap_bytes();
    graph_ = std::make_unique<Graph>(space_.get(), command.text("graph"));
    return Answer()
        .add("points", static_cast<double>(graph_->cur_element_count))
        .add("heap_bytes", static_cast<double>(heap_bytes() - heap_before));
  }

  Answer run(const Command& command) {
    if (graph_ == nullptr) throw std::runtime_error("run before build or load");
    const std::vector<float> queries = bench::read_array<float>(command.text("queries"));
    const std::size_t k = command.number("k");
    const std::size_t first = command.number("first");
    const std::size_t last = std::min<std::size_t>(first + command.number("count"), queries.size() / dim_);
    std::vector<std::uint32_t> filter_of_query;
    std::vector<std::uint64_t> bitmaps;
    if (command.has("bitmaps")) {
      filter_of_query = bench::read_array<std::uint32_t>(command.text("filter_of_query"));
      bitmaps = bench::read_array<std::uint64_t>(command.text("bitmaps"));
    }
    const std::size_t words = command.number("words", 0);
    graph_->setEf(command.number("ef"));
    std::vector<std::uint32_t> found((last - first) * k);
    Answer answer = bench::timed_passes(command, first, last, 1, [&](std::size_t i) {
      std::uint32_t* const out = found.data() + (i - first) * k;
      std::fill(out, out + k, bench::kNoHit);
      const float* const query = queries.data() + i * dim_;
      if (bitmaps.empty()) {
        take(graph_->searchKnn(query, k), out);
      } else {
        BitsetFilter filter(bitmaps.data() + filter_of_query[i] * words);
        take(graph_->searchKnn(query, k, &filter), out);
      }
    });
    bench::write_array(command.text("out"), found);
    return answer;
  }

  // What one thread reads from memory when it does nothing else.
  Answer read(const Command& command) {
    const std::size_t count = command.number("bytes") / sizeof(std::uint64_t);
    std::vector<std::uint64_t> memory;
    memory.reserve(count);
    // Huge pages, before the first touch: what is measured is memory, not the walk of its page tables.
    void* begin = memory.data();
    std::size_t space = count * sizeof(std::uint64_t);
    if (std::align(kHugePage, kHugePage, begin, space) != nullptr) madvise(begin, space / kHugePage * kHugePage, MADV_HUGEPAGE);
    memory.assign(count, 1);
    std::uint64_t sum = 0;
    Answer answer = bench::timed_passes(command, 0, 1, 1, [&](std::size_t) {
      for (const std::uint64_t word : memory) sum += word;
    });
    if (sum == 0) throw std::runtime_error("nothing was read");
    return answer;
  }

 private:
  static void take(std::priority_queue<std::pair<float, hnswlib::labeltype>> hits, std::uint32_t* out) {
    for (std::size_t place = hits.size(); place > 0; hits.pop()) out[--place] = static_cast<std::uint32_t>(hits.top().second);
  }

  std::size_t dim_ = 0;
  std::unique_ptr<hnswlib::InnerProductSpace> space_;
  std::unique_ptr<Graph> graph_;
};

}  // namespace

int main() {
  Stock stock;
  return bench::serve({{"build", [&](const Command& command) { return stock.build(command); }},
                       {"load", [&](const Command& command) { return stock.load(command); }},
                       {"run", [&](const Command& command) { return stock.run(command); }},
                       {"read", [&](const Command& command) { return stock.read(command); }}});
}
