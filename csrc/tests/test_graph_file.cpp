// Graph files: what was saved comes back, and nothing else gets in.

#include <algorithm>
#include <cstring>
#include <limits>

#include "check.hpp"
#include "crc32c.hpp"
#include "graph_file.hpp"
#include "samples.hpp"
#include "search.hpp"

namespace vecdb::test {
namespace {

constexpr std::uint32_t kDim = 8;
constexpr GraphOptions kOptions{4, 20, 9};
constexpr GraphIdentity kIdentity{{1, 2, 3}, 7, 0, kDim, Metric::l2, 4};

// As measured when the graph had half of these rows.
constexpr GraphProfile profile_at(Row rows) {
  return rows < 2 ? GraphProfile{} : GraphProfile{rows / 2, 20, 120, 300, 1500, 10, 20, 40, 1.2F, 1.1F, 250, 1400, 3, 4, 6};
}

// Positions in the header, as docs/file_format.md gives them.
constexpr std::size_t kRowsAt = 64;
constexpr std::size_t kProfileAt = 68;
constexpr std::size_t kEntryAt = 132;
constexpr std::size_t kSectionsAt = 144;
constexpr std::size_t kSectionBytes = 24;
constexpr std::size_t kHeaderCrcAt = kSectionsAt + 3 * kSectionBytes;
constexpr std::size_t kHeaderBytes = kHeaderCrcAt + 4;

struct Made {
  Vectors vectors{kDim, Metric::l2};
  Graph graph;
  Row rows;

  Made(std::mt19937_64& random, Row count) : graph(vectors, kOptions, std::max<Row>(count, 1)), rows(count) {
    vectors.append(normal_values(random, std::size_t{count} * kDim).data(), count);
    for (Row row = 0; row < count; ++row) {
      if (row % 7 != 3) graph.insert(row, row);  // dead rows leave holes
    }
  }

  std::vector<std::uint8_t> saved() const {
    std::vector<std::uint8_t> bytes(graph_file_size(graph, rows));
    save_graph(graph, kIdentity, {rows, profile_at(rows), 55}, bytes.data(), bytes.size());
    return bytes;
  }
  LoadedGraph loaded(const std::vector<std::uint8_t>& bytes) const {
    return load_graph(bytes.data(), bytes.size(), kIdentity, vectors, kOptions, rows);
  }
};

std::vector<Row> walked(const Graph& graph, const Vectors& vectors, const std::vector<float>& values, Row rows) {
  Scratch scratch;
  Ranking ranking(10, vectors, nullptr);
  search_graph(graph, vectors, Query(values.data(), kDim, Metric::l2), {nullptr, rows}, 15, kNoLimit, scratch, ranking);
  std::vector<Row> found;
  for (const Candidate& hit : ranking.take()) found.push_back(hit.row);
  return found;
}

template <class T>
T get(const std::vector<std::uint8_t>& bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

template <class T>
void put(std::vector<std::uint8_t>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

// Makes every checksum right again, as a forger would.
void forge(std::vector<std::uint8_t>& bytes) {
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t section = kSectionsAt + i * kSectionBytes;
    const auto start = get<std::uint64_t>(bytes, section + 8);
    const auto size = get<std::uint64_t>(bytes, section + 16);
    if (start <= bytes.size() && size <= bytes.size() - start) put(bytes, section + 4, crc32c(0, bytes.data() + start, size));
  }
  put(bytes, kHeaderCrcAt, crc32c(0, bytes.data(), kHeaderCrcAt));
}

std::size_t section_start(const std::vector<std::uint8_t>& bytes, std::size_t section) {
  return get<std::uint64_t>(bytes, kSectionsAt + section * kSectionBytes + 8);
}

// A node of that level.
Node node_at(const Graph& graph, int level) {
  Node node = 0;
  while (!graph.contains(node) || graph.level_of(node) != level) ++node;
  return node;
}

std::string refusal(const Made& made, const std::vector<std::uint8_t>& bytes) { return CHECK_THROWS(Code::corruption, made.loaded(bytes)); }

}  // namespace

TEST(a_saved_graph_comes_back_link_by_link) {
  std::mt19937_64 random = seeded("graph file", 51);
  for (const Row rows : {0U, 1U, 5U, 300U}) {
    const Made made(random, rows);
    const std::vector<std::uint8_t> bytes = made.saved();
    const LoadedGraph loaded = made.loaded(bytes);
    CHECK_EQUAL(rows, loaded.state.rows);
    CHECK_EQUAL(55U, loaded.state.lsn);
    CHECK_EQUAL(profile_at(rows).ef100, loaded.state.profile.ef100);
    CHECK_EQUAL(profile_at(rows).factor100, loaded.state.profile.factor100);
    CHECK_EQUAL(profile_at(rows).largest_norm, loaded.state.profile.largest_norm);
    CHECK_EQUAL(profile_at(rows).tile_stream_ns, loaded.state.profile.tile_stream_ns);
    CHECK_EQUAL(profile_at(rows).tile_gather_ns, loaded.state.profile.tile_gather_ns);
    CHECK_EQUAL(profile_at(rows).nodes, loaded.state.profile.nodes);
    CHECK_EQUAL(made.graph.count(), loaded.graph->count());
    std::vector<Node> before(made.graph.max_links(0)), after(made.graph.max_links(0));
    for (Node node = 0; node < rows; ++node) {
      CHECK_EQUAL(made.graph.contains(node), loaded.graph->contains(node));
      if (!made.graph.contains(node)) continue;
      CHECK_EQUAL(made.graph.level_of(node), loaded.graph->level_of(node));
      for (int level = 0; level <= made.graph.level_of(node); ++level) {
        const std::uint32_t count = made.graph.copy_links(node, level, before.data());
        CHECK_EQUAL(count, loaded.graph->copy_links(node, level, after.data()));
        CHECK(std::equal(before.begin(), before.begin() + count, after.begin()));
      }
    }
    const std::vector<float> query = normal_values(random, kDim);
    CHECK(walked(made.graph, made.vectors, query, rows) == walked(*loaded.graph, made.vectors, query, rows));
  }
}

TEST(a_graph_file_of_fewer_rows_leaves_out_the_nodes_beyond) {
  std::mt19937_64 random = seeded("graph prefix", 52);
  const Made made(random, 200);
  std::vector<std::uint8_t> bytes(graph_file_size(made.graph, 120));
  save_graph(made.graph, kIdentity, {120, profile_at(120), 1}, bytes.data(), bytes.size());
  const LoadedGraph loaded = made.loaded(bytes);
  std::vector<Node> links(loaded.graph->max_links(0));
  Node nodes = 0;
  for (Node node = 0; node < 120; ++node) {
    if (!loaded.graph->contains(node)) continue;
    ++nodes;
    const std::uint32_t count = loaded.graph->copy_links(node, 0, links.data());
    for (std::uint32_t i = 0; i < count; ++i) CHECK(links[i] < 120);
  }
  CHECK_EQUAL(nodes, loaded.graph->count());
  CHECK_EQUAL(loaded.graph->entry().level, loaded.graph->level_of(loaded.graph->entry().node));
}

TEST(any_flipped_bit_or_missing_byte_is_refused) {
  std::mt19937_64 random = seeded("flipped bits", 53);
  const Made made(random, 60);
  const std::vector<std::uint8_t> bytes = made.saved();
  for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
    std::vector<std::uint8_t> flipped = bytes;
    flipped[byte] ^= static_cast<std::uint8_t>(1U << (random() % 8));
    refusal(made, flipped);
  }
  for (std::size_t size = 0; size < bytes.size(); size += 1 + random() % 40) {
    refusal(made, std::vector<std::uint8_t>(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  std::vector<std::uint8_t> longer = bytes;
  longer.push_back(0);
  refusal(made, longer);
}

TEST(a_forged_graph_file_loads_whole_or_is_refused) {
  std::mt19937_64 random = seeded("forged files", 54);
  const Made made(random, 60);
  const std::vector<std::uint8_t> bytes = made.saved();
  int loaded_count = 0;
  for (int i = 0; i < 6000; ++i) {
    std::vector<std::uint8_t> forged = bytes;
    for (std::uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      forged[random() % forged.size()] = static_cast<std::uint8_t>(random());
    }
    forge(forged);
    try {
      const LoadedGraph loaded = made.loaded(forged);
      ++loaded_count;
      walked(*loaded.graph, made.vectors, normal_values(random, kDim), made.rows);
    } catch (const Error& error) {
      CHECK_EQUAL(static_cast<int>(Code::corruption), static_cast<int>(error.code()));
    }
  }
  CHECK(loaded_count > 0);  // a link to another node that exists is a link as good as any
}

TEST(forged_links_levels_and_entries_are_refused) {
  std::mt19937_64 random = seeded("forged parts", 55);
  const Made made(random, 60);
  const std::vector<std::uint8_t> bytes = made.saved();
  const auto refused = [&](const char* part, const auto& change) {
    std::vector<std::uint8_t> forged = bytes;
    change(forged);
    forge(forged);
    const std::string message = refusal(made, forged);
    if (message.find(part) == std::string::npos) fail(__FILE__, __LINE__, message);
  };
  const std::size_t levels = section_start(bytes, 0);
  const std::size_t counts = section_start(bytes, 1);
  const std::size_t links = section_start(bytes, 2);
  refused("to node 60 at level 0", [&](auto& b) { put<std::uint32_t>(b, links, 60); });
  refused("to node 4294967280 at level 0", [&](auto& b) { put<std::uint32_t>(b, links, 0xFFFFFFF0U); });
  refused("to node 3 at level 0", [&](auto& b) { put<std::uint32_t>(b, links, 3); });  // row 3 was dead
  refused("to node 0 at level 0", [&](auto& b) { put<std::uint32_t>(b, links, 0); });  // itself
  refused("links at level 0, expected at most 8", [&](auto& b) { put<std::uint16_t>(b, counts, 9); });
  refused("the graph", [&](auto& b) { put<std::uint16_t>(b, counts, static_cast<std::uint16_t>(get<std::uint16_t>(b, counts) - 1)); });
  refused("the number of nodes", [&](auto& b) { b[levels + 3] = 1; });
  refused("the number of lists", [&](auto& b) { b[levels + node_at(made.graph, 0)] = 2; });
  refused("has level 254", [&](auto& b) { b[levels] = 255; });
  refused("the entry is node 3", [&](auto& b) { put<std::uint32_t>(b, kEntryAt, 3); });
  refused("the level of the entry", [&](auto& b) { put<std::int32_t>(b, kEntryAt + 4, 60); });
  refused("expected at most the field's 60", [&](auto& b) { put<std::uint32_t>(b, kRowsAt, 61); });
  refused("the size of the levels", [&](auto& b) { put<std::uint32_t>(b, kRowsAt, 59); });
  refused("at 61 of 60 rows", [&](auto& b) { put<std::uint32_t>(b, kProfileAt, 61); });
  refused("beams of 121 and 120", [&](auto& b) { put<std::uint32_t>(b, kProfileAt + 4, 121); });
  refused("none that can be measured", [&](auto& b) { put<float>(b, kProfileAt + 28, std::numeric_limits<float>::quiet_NaN()); });
  refused("passes its end", [&](auto& b) { put<std::uint64_t>(b, kSectionsAt + 16, std::uint64_t{1} << 60); });
  refused("the start of a section", [&](auto& b) { put<std::uint64_t>(b, kSectionsAt + kSectionBytes + 8, 0); });
}

TEST(a_graph_file_of_another_field_or_version_is_refused) {
  std::mt19937_64 random = seeded("identities", 56);
  const Made made(random, 40);
  const std::vector<std::uint8_t> bytes = made.saved();
  CHECK_EQUAL(kHeaderBytes, std::size_t{get<std::uint32_t>(bytes, 12)});
  const auto refused = [&](const char* part, GraphIdentity expected) {
    const std::string message =
        CHECK_THROWS(Code::corruption, load_graph(bytes.data(), bytes.size(), expected, made.vectors, kOptions, made.rows));
    if (message.find(part) == std::string::npos) fail(__FILE__, __LINE__, message);
  };
  refused("uuid", {{9}, 7, 0, kDim, Metric::l2, 4});
  refused("generation is 7, expected 8", {{1, 2, 3}, 8, 0, kDim, Metric::l2, 4});
  refused("field is 0, expected 2", {{1, 2, 3}, 7, 2, kDim, Metric::l2, 4});
  refused("dim is 8, expected 9", {{1, 2, 3}, 7, 0, 9, Metric::l2, 4});
  refused("metric is 2, expected 1", {{1, 2, 3}, 7, 0, kDim, Metric::dot, 4});
  refused("m is 4, expected 16", {{1, 2, 3}, 7, 0, kDim, Metric::l2, 16});
  std::vector<std::uint8_t> newer = bytes;
  put<std::uint32_t>(newer, 8, 2);
  forge(newer);
  CHECK(refusal(made, newer).find("format 2, expected 1; was it written by a newer vecdb?") != std::string::npos);
}

}  // namespace vecdb::test
