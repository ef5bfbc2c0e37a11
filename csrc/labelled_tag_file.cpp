// The tag file, little-endian. Header, 32 bytes: magic "VECDBTAG", u32 version, u32 CRC32C of the main file, u64 size of the whole file,
// u32 number of sections, u32 CRC32C of the 28 bytes before. Then the sections, each: u32 kind, u32 CRC32C of the body, u64 size of the
// body, body. First one of kind 1, the tags: u64 number of tags, and for each, ascending: u64 tag, u64 number of points, their places in
// the main file (u32, ascending). Then any number of kind 2, the links of a union of tags: u32 m, u32 number of tags, the tags (u64,
// ascending), u32 number of nodes, i32 level and u32 node of the entry; for each node u32 place in the main file and u32 level; for each
// node and level u32 number of links and the links (u32).

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "crc32c.hpp"
#include "error.hpp"
#include "labelled_file.hpp"

namespace vecdb {

namespace {

constexpr const char* kWhat = "the tag file";
constexpr std::uint8_t kMagic[8] = {'V', 'E', 'C', 'D', 'B', 'T', 'A', 'G'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 32;
constexpr std::uint32_t kTags = 1;
constexpr std::uint32_t kLinks = 2;

[[noreturn]] void fail(const std::string& what) { throw Error(Code::corruption, std::string(kWhat) + ": " + what); }

std::string number(std::uint64_t value) { return std::to_string(value); }

void write_tags(const LabelledContent& content, Writer& out) {
  std::map<Tag, std::vector<Node>> by_tag;
  content.tag_lists.for_each([&](Offset node, const std::vector<Tag>& tags) {
    for (const Tag tag : tags) by_tag[tag].push_back(node);
  });
  out.u64(by_tag.size());
  for (auto& [tag, nodes] : by_tag) {
    std::sort(nodes.begin(), nodes.end());
    out.u64(tag);
    out.u64(nodes.size());
    out.numbers(nodes.data(), nodes.size());
  }
}

void write_links(const TagLinks& links, Writer& out) {
  const std::shared_ptr<const Graph> graph = links.graph();
  const Node count = graph->count();
  const Graph::Entry entry = graph->entry();
  out.u32(graph->options().m);
  out.u32(static_cast<std::uint32_t>(links.tags().size()));
  out.numbers(links.tags().data(), links.tags().size());
  out.u32(count);
  out.i32(entry.level);
  out.u32(entry.node);
  for (Node node = 0; node < count; ++node) {
    out.u32(graph->row_of(node));
    out.u32(static_cast<std::uint32_t>(graph->level_of(node)));
  }
  std::vector<Node> list(graph->max_links(0));
  for (Node node = 0; node < count; ++node) {
    for (int level = 0; level <= graph->level_of(node); ++level) {
      const std::uint32_t size = graph->copy_links(node, level, list.data());
      out.u32(size);
      out.numbers(list.data(), size);
    }
  }
}

template <class Body>
void write_section(std::uint32_t kind, Writer& out, const Body& body) {
  Writer size = Writer::counting();
  body(size);
  std::vector<std::uint8_t> bytes(out.is_counting() ? 0 : size.position());
  if (!out.is_counting()) {
    Writer section(bytes.data(), bytes.size());
    body(section);
  }
  out.u32(kind);
  out.u32(crc32c(0, bytes.data(), bytes.size()));
  out.u64(size.position());
  if (out.is_counting()) {
    out.zeros(size.position());
  } else {
    out.bytes(bytes.data(), bytes.size());
  }
}

void write_sections(const LabelledContent& content, Writer& out) {
  write_section(kTags, out, [&](Writer& body) { write_tags(content, body); });
  for (const std::shared_ptr<TagLinks>& links : content.links) {
    write_section(kLinks, out, [&](Writer& body) { write_links(*links, body); });
  }
}

void read_tags(LabelledContent& content, Reader& in) {
  const std::uint64_t tags = in.u64();
  std::vector<Node> nodes;
  Tag last = 0;
  for (std::uint64_t i = 0; i < tags; ++i) {
    const Tag tag = in.u64();
    const std::uint64_t count = in.u64();
    if (i > 0 && tag <= last) fail("tag " + number(tag) + " follows tag " + number(last) + ", expected ascending tags");
    if (count == 0 || count > content.count()) {
      fail("tag " + number(tag) + " has " + number(count) + " points, the index has " + number(content.count()));
    }
    nodes.resize(static_cast<std::size_t>(count));
    in.numbers(nodes.data(), nodes.size());
    std::vector<TagEntry> entries;
    entries.reserve(nodes.size());
    for (std::size_t j = 0; j < nodes.size(); ++j) {
      if (nodes[j] >= content.count() || (j > 0 && nodes[j] <= nodes[j - 1])) {
        fail("tag " + number(tag) + " is on point " + number(nodes[j]) + ", expected ascending numbers below " + number(content.count()));
      }
      content.tag_lists.add(nodes[j], tag);
      entries.push_back({tag, nodes[j]});
    }
    content.tags.add(std::move(entries));
    last = tag;
  }
}

std::vector<Tag> read_link_tags(Reader& in) {
  const std::uint32_t count = in.u32();
  if (count == 0 || count > in.remaining() / sizeof(Tag)) fail(number(count) + " tags of links, expected 1 or more that fit the file");
  std::vector<Tag> tags(count);
  in.numbers(tags.data(), tags.size());
  if (std::adjacent_find(tags.begin(), tags.end(), [](Tag a, Tag b) { return a >= b; }) != tags.end()) {
    fail("the tags of links are not ascending");
  }
  return tags;
}

void read_nodes(const LabelledContent& content, Graph& graph, Node count, Reader& in) {
  Bitset rows(content.count());
  for (Node node = 0; node < count; ++node) {
    const Row row = in.u32();
    const std::uint32_t level = in.u32();
    if (row >= content.count() || rows.contains(row)) fail("links have point " + number(row) + " twice, or it is not in the index");
    rows.set(row);
    if (level > INT32_MAX) fail("a point of links has level " + number(level));
    graph.restore_node(node, row, static_cast<int>(level));
  }
}

void read_node_links(Graph& graph, Node count, Reader& in) {
  std::vector<Node> list(graph.max_links(0));
  for (Node node = 0; node < count; ++node) {
    for (int level = 0; level <= graph.level_of(node); ++level) {
      const std::uint32_t size = in.u32();
      if (size > list.size()) fail("a point has " + number(size) + " links, expected at most " + number(list.size()));
      in.numbers(list.data(), size);
      graph.restore_links(node, level, list.data(), size);
    }
  }
}

// Links that miss a point would make searches miss it.
void check_members(const LabelledContent& content, const TagLinks& links, const Graph& graph) {
  Bitset rows(content.count());
  for (Node node = 0; node < graph.count(); ++node) rows.set(graph.row_of(node));
  content.tag_lists.for_each([&](Offset row, const std::vector<Tag>& tags) {
    for (const Tag tag : tags) {
      if (links.has(tag) && !rows.contains(row)) fail("point " + number(row) + " has tag " + number(tag) + " but is missing in its links");
    }
  });
}

void read_links(LabelledContent& content, Reader& in) {
  const std::uint32_t m = in.u32();
  if (m < kMinM || m > kMaxM) fail("links have m " + number(m) + ", expected " + number(kMinM) + " to " + number(kMaxM));
  std::vector<Tag> tags = read_link_tags(in);
  const Node count = in.u32();
  const int top = in.i32();
  const Node entry = in.u32();
  if (count == 0 || count > content.count()) fail("links of " + number(count) + " points, the index has " + number(content.count()));
  auto graph = std::make_unique<Graph>(*content.vectors, content.graph_options(m), count);
  read_nodes(content, *graph, count, in);
  read_node_links(*graph, count, in);
  graph->restore_entry({entry, top});
  auto links = std::make_shared<TagLinks>(std::move(tags), std::move(graph));
  check_members(content, *links, *links->graph());
  content.links.push_back(std::move(links));
}

std::uint32_t check_header(Reader& in, const std::uint8_t* data, std::size_t size, std::uint32_t main_crc) {
  if (size < kHeaderBytes) fail("it has " + number(size) + " bytes, its header alone needs " + number(kHeaderBytes));
  if (!std::equal(kMagic, kMagic + sizeof(kMagic), in.bytes(sizeof(kMagic)))) fail("it does not start with VECDBTAG: it is no tag file");
  const std::uint32_t version = in.u32();
  const std::uint32_t named_crc = in.u32();
  const std::uint64_t named_size = in.u64();
  const std::uint32_t sections = in.u32();
  const std::uint32_t header_crc = in.u32();
  if (header_crc != crc32c(0, data, kHeaderBytes - sizeof(header_crc))) {
    fail("the checksum of its header is wrong; restore the file from a backup, or remove it to load without tags");
  }
  if (version != kVersion) {
    fail("it has version " + number(version) + ", expected " + number(kVersion) + "; was it written by a newer vecdb?");
  }
  if (named_crc != main_crc) {
    fail("it belongs to a main file with CRC32C " + number(named_crc) + ", the main file beside it has " + number(main_crc) +
         "; put files of one save together, or remove the tag file to load without tags");
  }
  if (named_size != size) fail("it has " + number(size) + " bytes, expected " + number(named_size) + "; it was cut or extended");
  return sections;
}

}  // namespace

void write_tag_file(const LabelledContent& content, std::uint32_t main_crc, Writer& out) {
  if (content.tags.size() == 0 && content.links.empty()) return;
  Writer counted = Writer::counting();
  write_sections(content, counted);
  std::uint8_t header[kHeaderBytes];
  Writer head(header, sizeof(header));
  head.bytes(kMagic, sizeof(kMagic));
  head.u32(kVersion);
  head.u32(main_crc);
  head.u64(kHeaderBytes + counted.position());
  head.u32(static_cast<std::uint32_t>(1 + content.links.size()));
  head.u32(crc32c(0, header, head.position()));
  out.bytes(header, sizeof(header));
  if (out.is_counting()) {
    out.zeros(counted.position());
  } else {
    write_sections(content, out);
  }
}

void read_tag_file(LabelledContent& content, std::uint32_t main_crc, const std::uint8_t* data, std::size_t size) {
  Reader in(data, size, kWhat);
  const std::uint32_t sections = check_header(in, data, size, main_crc);
  if (sections == 0) fail("it has no section, expected the tags at least");
  for (std::uint32_t i = 0; i < sections; ++i) {
    const std::uint32_t kind = in.u32();
    const std::uint32_t crc = in.u32();
    const std::uint64_t body_size = in.u64();
    if (kind != (i == 0 ? kTags : kLinks)) fail("section " + number(i) + " is of kind " + number(kind) + ", expected tags, then links");
    if (body_size > in.remaining()) {
      fail("section " + number(i) + " has " + number(body_size) + " bytes, " + number(in.remaining()) + " are left");
    }
    const std::uint8_t* const bytes = in.bytes(static_cast<std::size_t>(body_size));
    if (crc != crc32c(0, bytes, static_cast<std::size_t>(body_size))) {
      fail("the checksum of section " + number(i) + " is wrong; restore the file from a backup, or remove it to load without tags");
    }
    Reader body(bytes, static_cast<std::size_t>(body_size), kWhat);
    if (kind == kTags) {
      read_tags(content, body);
    } else {
      read_links(content, body);
    }
    body.expect_end();
  }
  in.expect_end();
}

}  // namespace vecdb
