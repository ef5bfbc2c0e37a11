// Insertion when memory runs out: every allocation of an insert fails once. The executable's operator new is replaced here
// to make that happen in the thread that asks for it.

#include <cstdlib>
#include <memory>
#include <new>

#include "check.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace {

// Allocations of this thread until one fails; negative: none fails.
thread_local long allocations_left = -1;

}  // namespace

void* operator new(std::size_t size) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  void* memory = std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace vecdb::test {
namespace {

TEST(an_insert_that_runs_out_of_memory_anywhere_leaves_a_sound_graph_and_can_be_repeated) {
  constexpr std::uint32_t kDim = 8;
  constexpr Node kCount = 400;
  std::mt19937_64 random = seeded("out of memory", 61);
  const std::vector<float> rows = clustered_rows(random, kCount, kDim, 5);
  Vectors vectors(kDim, Metric::l2);
  vectors.append(rows.data(), kCount);
  std::unique_ptr<Graph> owner = Graph(vectors, {4, 20, 3}, kCount).grown(kCount);
  long failures = 0;
  for (Node node = 0; node < kCount; ++node) {
    // A new graph has no working memory yet: its first insertion allocates all of it.
    if (node % 4 == 0) owner = owner->grown(kCount);
    Graph& graph = *owner;
    for (long budget = 0; !graph.contains(node); budget += node % 3 + 1) {
      allocations_left = budget;
      try {
        graph.insert(node, node);
      } catch (const std::bad_alloc&) {
        ++failures;
      }
      allocations_left = -1;
      CHECK_EQUAL(node + (graph.contains(node) ? 1 : 0), graph.count());
    }
    std::vector<Node> links(graph.max_links(0));
    for (Node seen = 0; seen <= node; ++seen) {
      for (int level = 0; level <= graph.level_of(seen); ++level) {
        const std::uint32_t count = graph.copy_links(seen, level, links.data());
        CHECK(count <= graph.max_links(level));
        for (std::uint32_t i = 0; i < count; ++i) CHECK(links[i] <= node && links[i] != seen && graph.level_of(links[i]) >= level);
      }
    }
  }
  CHECK(failures > 300);
  Scratch scratch;
  Row found = 0;
  for (Row row = 0; row < kCount; ++row) {
    Ranking ranking(1, vectors, nullptr);
    const Query query(&rows[std::size_t{row} * kDim], kDim, Metric::l2);
    search_graph(*owner, vectors, query, {nullptr, kCount}, 40, kNoLimit, scratch, ranking);
    found += ranking.take()[0].row == row ? 1 : 0;
  }
  CHECK(found >= kCount * 98 / 100);
}

}  // namespace
}  // namespace vecdb::test
