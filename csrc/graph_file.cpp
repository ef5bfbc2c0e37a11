// Header, levels, counts, links; written in one pass over the nodes, read in one, which checks what it fills a graph with.

#include "graph_file.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "coding.hpp"
#include "crc32c.hpp"
#include "error.hpp"

namespace vecdb {

namespace {

constexpr char kWhat[] = "graph file";
constexpr std::uint8_t kMagic[8] = {'v', 'd', 'b', 'g', 'r', 'a', 'p', 'h'};
constexpr std::uint32_t kVersion = 1;

// A section is an array: levels by node (u8: 0 for a node that is not there, else its level + 1), the link counts of every list
// (u16: node by node, level 0 first), and the links themselves (u32, in the same order).
enum SectionKind : std::uint32_t { kLevels = 1, kCounts = 2, kLinks = 3 };
constexpr std::uint32_t kSectionCount = 3;

constexpr std::size_t kSectionBytes = 4 + 4 + 8 + 8;
constexpr std::size_t kFixedBytes = 8 + 4 + 4 + 16 + 8 + 8 + 4 * 4 + 4 + 15 * 4 + 4 * 4;
constexpr std::size_t kHeaderBytes = kFixedBytes + kSectionCount * kSectionBytes + 4;
constexpr int kMaxLevel = 63;
constexpr int kNoEntry = -1;  // the level of the entry of an empty graph

struct Section {
  std::uint32_t kind;
  std::uint32_t crc;
  std::uint64_t start;
  std::uint64_t size;
};

[[noreturn]] void corrupt(const std::string& what) { throw Error(Code::corruption, std::string(kWhat) + ": " + what); }

template <class Seen, class Expected>
void expect(const char* what, const Seen& seen, const Expected& expected) {
  if (seen == expected) return;
  corrupt(std::string(what) + " is " + std::to_string(seen) + ", expected " + std::to_string(expected));
}

struct Header {
  GraphIdentity identity;
  GraphState state;
  Node nodes;
  Node entry_node;
  std::int32_t entry_level;
  Section sections[kSectionCount];
};

void write_profile(Writer& out, const GraphProfile& profile) {
  out.u32(profile.nodes);
  out.u32(profile.ef10);
  out.u32(profile.ef100);
  out.f32(profile.distances10);
  out.f32(profile.distances100);
  out.f32(profile.stream_ns);
  out.f32(profile.gather_ns);
  out.f32(profile.step_ns);
  out.f32(profile.factor10);
  out.f32(profile.factor100);
  out.f32(profile.bounded10);
  out.f32(profile.bounded100);
  out.f32(profile.largest_norm);
  out.f32(profile.tile_stream_ns);
  out.f32(profile.tile_gather_ns);
}

void write_header(Writer& out, const Header& header) {
  out.bytes(kMagic, sizeof(kMagic));
  out.u32(kVersion);
  out.u32(kHeaderBytes);
  out.bytes(header.identity.uuid.data(), header.identity.uuid.size());
  out.u64(header.identity.generation);
  out.u64(header.state.lsn);
  out.u32(header.identity.field);
  out.u32(header.identity.dim);
  out.u32(static_cast<std::uint32_t>(header.identity.metric));
  out.u32(header.identity.m);
  out.u32(header.state.rows);
  write_profile(out, header.state.profile);
  out.u32(header.nodes);
  out.u32(header.entry_node);
  out.i32(header.entry_level);
  out.u32(kSectionCount);
  for (const Section& section : header.sections) {
    out.u32(section.kind);
    out.u32(section.crc);
    out.u64(section.start);
    out.u64(section.size);
  }
  out.u32(crc32c(0, out.data(), out.position()));
}

Header read_header(const std::uint8_t* buffer, std::uint64_t size) {
  if (size < kHeaderBytes) corrupt("it has " + std::to_string(size) + " bytes, fewer than its header of " + std::to_string(kHeaderBytes));
  Reader in(buffer, kHeaderBytes, kWhat);
  if (std::memcmp(in.bytes(sizeof(kMagic)), kMagic, sizeof(kMagic)) != 0) corrupt("its first 8 bytes are not those of a graph file");
  const std::uint32_t version = in.u32();
  if (version != kVersion) {
    corrupt("it has format " + std::to_string(version) + ", expected " + std::to_string(kVersion) + "; was it written by a newer vecdb?");
  }
  expect("the header's size", in.u32(), kHeaderBytes);
  Reader tail(buffer + kHeaderBytes - 4, 4, kWhat);
  expect("the header's checksum", crc32c(0, buffer, kHeaderBytes - 4), tail.u32());
  Header header{};
  std::memcpy(header.identity.uuid.data(), in.bytes(header.identity.uuid.size()), header.identity.uuid.size());
  header.identity.generation = in.u64();
  header.state.lsn = in.u64();
  header.identity.field = in.u32();
  header.identity.dim = in.u32();
  header.identity.metric = static_cast<Metric>(in.u32());
  header.identity.m = in.u32();
  header.state.rows = in.u32();
  header.state.profile = {in.u32(), in.u32(), in.u32(), in.f32(), in.f32(), in.f32(), in.f32(), in.f32(),
                          in.f32(), in.f32(), in.f32(), in.f32(), in.f32(), in.f32(), in.f32()};
  header.nodes = in.u32();
  header.entry_node = in.u32();
  header.entry_level = in.i32();
  expect("the number of sections", in.u32(), kSectionCount);
  std::uint64_t start = kHeaderBytes;
  for (std::uint32_t i = 0; i < kSectionCount; ++i) {
    Section& section = header.sections[i];
    section = {in.u32(), in.u32(), in.u64(), in.u64()};
    expect("the kind of a section", section.kind, i + 1);
    expect("the start of a section", section.start, start);
    if (section.size > size - start) corrupt("section " + std::to_string(i + 1) + " passes its end");
    start += section.size;
  }
  expect("its size", size, start);
  return header;
}

void check_identity(const GraphIdentity& seen, const GraphIdentity& expected) {
  if (seen.uuid != expected.uuid) corrupt("it belongs to another collection: the uuid differs");
  expect("the generation", seen.generation, expected.generation);
  expect("the field", seen.field, expected.field);
  expect("dim", seen.dim, expected.dim);
  expect("the metric", static_cast<std::uint32_t>(seen.metric), static_cast<std::uint32_t>(expected.metric));
  expect("m", seen.m, expected.m);
}

std::uint32_t max_links(std::uint32_t m, int level) { return level == 0 ? 2 * m : m; }

// The sections of a file in place, once their checksums and sizes are known to be right.
struct Body {
  const std::uint8_t* levels;
  Reader counts;
  Reader links;
};

Body open_body(const std::uint8_t* buffer, const Header& header) {
  const auto section = [&](SectionKind kind) { return header.sections[kind - 1]; };
  for (const Section& found : header.sections) {
    expect("the checksum of a section", crc32c(0, buffer + found.start, found.size), found.crc);
  }
  expect("the size of the levels", section(kLevels).size, header.state.rows);
  return {buffer + section(kLevels).start, Reader(buffer + section(kCounts).start, section(kCounts).size, "graph file, link counts"),
          Reader(buffer + section(kLinks).start, section(kLinks).size, "graph file, links")};
}

// Takes over every list; throws for a count that is too large, a link to a node that is not there, or a section of the wrong size.
void restore_lists(Body body, const Header& header, Graph& graph) {
  std::vector<Node> links(max_links(header.identity.m, 0));
  for (Node node = 0; node < header.state.rows; ++node) {
    if (!graph.contains(node)) continue;
    for (int level = 0; level <= graph.level_of(node); ++level) {
      const std::uint32_t count = body.counts.u16();
      if (count > max_links(header.identity.m, level)) {
        corrupt("node " + std::to_string(node) + " has " + std::to_string(count) + " links at level " + std::to_string(level) +
                ", expected at most " + std::to_string(max_links(header.identity.m, level)));
      }
      body.links.numbers(links.data(), count);
      graph.restore_links(node, level, links.data(), count);
    }
  }
  body.counts.expect_end();
  body.links.expect_end();
}

void check_entry(const Body& body, const Header& header) {
  Node nodes = 0;
  std::uint64_t lists = 0;
  int top = 0;
  for (Row row = 0; row < header.state.rows; ++row) {
    nodes += body.levels[row] != 0 ? 1 : 0;
    lists += body.levels[row];
    top = std::max<int>(top, body.levels[row]);
  }
  if (top - 1 > kMaxLevel) corrupt("a node has level " + std::to_string(top - 1) + ", expected at most " + std::to_string(kMaxLevel));
  expect("the number of nodes", header.nodes, nodes);
  expect("the number of lists", body.counts.remaining() / sizeof(std::uint16_t), lists);
  expect("the level of the entry", header.entry_level, top == 0 ? kNoEntry : top - 1);
  if (nodes == 0) return;
  if (header.entry_node >= header.state.rows || body.levels[header.entry_node] != top) {
    corrupt("the entry is node " + std::to_string(header.entry_node) + ", expected one of level " + std::to_string(top - 1));
  }
}

void check_profile(const GraphProfile& profile, Row rows) {
  if (profile.is_known() && (!is_plausible(profile) || profile.nodes > rows)) {
    corrupt("its profile was measured at " + std::to_string(profile.nodes) + " of " + std::to_string(rows) + " rows with beams of " +
            std::to_string(profile.ef10) + " and " + std::to_string(profile.ef100) + ", and is none that can be measured");
  }
}

// Calls visit(node, top level) for the nodes below rows, in order.
template <class Visit>
void for_each_node(const Graph& graph, Row rows, Visit&& visit) {
  for (Node node = 0; node < rows; ++node) {
    if (graph.contains(node)) visit(node, graph.level_of(node));
  }
}

// Links to nodes that the file leaves out are left out as well: an insertion that failed may leave nodes beyond rows.
std::uint32_t links_below(const Graph& graph, Row rows, Node node, int level, Node* out) {
  const std::uint32_t count = graph.copy_links(node, level, out);
  return static_cast<std::uint32_t>(std::remove_if(out, out + count, [&](Node link) { return link >= rows; }) - out);
}

struct Lists {
  Node nodes = 0;
  Graph::Entry entry{0, kNoEntry};
  std::vector<std::uint16_t> counts;
  std::uint64_t links = 0;
};

Lists count_lists(const Graph& graph, Row rows) {
  Lists lists;
  std::vector<Node> links(graph.max_links(0));
  for_each_node(graph, rows, [&](Node node, int top) {
    ++lists.nodes;
    if (top > lists.entry.level) lists.entry = {node, top};
    for (int level = 0; level <= top; ++level) {
      lists.counts.push_back(static_cast<std::uint16_t>(links_below(graph, rows, node, level, links.data())));
      lists.links += lists.counts.back();
    }
  });
  const Graph::Entry entry = graph.entry();
  if (entry.level == lists.entry.level && entry.node < rows) lists.entry = entry;
  return lists;
}

std::uint64_t total_size(Row rows, const Lists& lists) {
  return kHeaderBytes + std::uint64_t{rows} + lists.counts.size() * sizeof(std::uint16_t) + lists.links * sizeof(Node);
}

}  // namespace

std::uint64_t graph_file_size(const Graph& graph, Row rows) { return total_size(rows, count_lists(graph, rows)); }

void save_graph(const Graph& graph, const GraphIdentity& identity, const GraphState& state, std::uint8_t* buffer, std::uint64_t size) {
  const Row rows = state.rows;
  const Lists lists = count_lists(graph, rows);
  if (size < total_size(rows, lists)) {
    throw Error(Code::capacity,
                "the buffer has " + std::to_string(size) + " bytes, the graph needs " + std::to_string(total_size(rows, lists)));
  }
  Header header{identity, state, lists.nodes, lists.entry.node, lists.entry.level, {}};

  Writer out(buffer, size);
  out.zeros(kHeaderBytes);
  std::vector<std::uint8_t> levels(rows, 0);
  for_each_node(graph, rows, [&](Node node, int top) { levels[node] = static_cast<std::uint8_t>(top + 1); });
  out.numbers(levels.data(), levels.size());
  out.numbers(lists.counts.data(), lists.counts.size());
  std::vector<Node> links(graph.max_links(0));
  for_each_node(graph, rows, [&](Node node, int top) {
    for (int level = 0; level <= top; ++level) out.numbers(links.data(), links_below(graph, rows, node, level, links.data()));
  });

  const std::uint64_t sizes[kSectionCount] = {rows, lists.counts.size() * sizeof(std::uint16_t), lists.links * sizeof(Node)};
  std::uint64_t start = kHeaderBytes;
  for (std::uint32_t i = 0; i < kSectionCount; ++i) {
    header.sections[i] = {i + 1, crc32c(0, buffer + start, sizes[i]), start, sizes[i]};
    start += sizes[i];
  }
  Writer head(buffer, kHeaderBytes);
  write_header(head, header);
}

CompactedGraph compacted_graph(const Graph& graph, const GraphState& state, const std::uint64_t* kept, Row row_count) {
  std::vector<Node> new_of_old(std::min(state.rows, row_count), kNoNode);
  Row rows = 0;
  for (Row row = 0; row < new_of_old.size(); ++row) {
    if ((kept[row >> 6] >> (row & 63) & 1) != 0) new_of_old[row] = rows++;
  }
  CompactedGraph compacted{graph.renumbered(new_of_old, std::max<Row>(rows, 1)), state};
  compacted.state.rows = rows;
  compacted.state.profile.nodes = std::min(state.profile.nodes, rows);
  return compacted;
}

LoadedGraph load_graph(const std::uint8_t* buffer, std::uint64_t size, const GraphIdentity& expected, const Vectors& vectors,
                       const GraphOptions& options, Row max_rows) {
  const Header header = read_header(buffer, size);
  check_identity(header.identity, expected);
  if (header.state.rows > max_rows) {
    corrupt("it covers " + std::to_string(header.state.rows) + " rows, expected at most the field's " + std::to_string(max_rows));
  }
  check_profile(header.state.profile, header.state.rows);
  const Body body = open_body(buffer, header);
  check_entry(body, header);

  const std::uint64_t room = std::clamp<std::uint64_t>(std::uint64_t{max_rows} + max_rows / 4, 1, UINT32_MAX);
  auto graph = std::make_unique<Graph>(vectors, options, static_cast<Node>(room));
  for (Node node = 0; node < header.state.rows; ++node) {
    if (body.levels[node] != 0) graph->restore_node(node, node, body.levels[node] - 1);
  }
  restore_lists(body, header, *graph);
  if (header.nodes != 0) graph->restore_entry({header.entry_node, header.entry_level});
  return {std::move(graph), header.state};
}

}  // namespace vecdb
