// hnswlib's format. All numbers are little-endian; u64 where nothing else is said. Header, 96 bytes: offset of the links in an element (0),
// max_elements, count, size of an element, offset of its label, offset of its vector, highest level (i32, -1 when empty), entry (u32),
// links a level, links at level 0, m, 1 / ln(m) (f64), ef_construction. Then count elements: u32 number of links with the delete mark as
// bit 16, room for 2 m links (u32), vector (f32), label. Then for each element u32 size and per level from 1 on u32 number of links and
// room for m links.

#include "labelled_file.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "error.hpp"

namespace vecdb {

namespace {

constexpr const char* kWhat = "the index file";
constexpr std::uint32_t kDeletedBit = 1U << 16;
constexpr std::size_t kHeaderBytes = 96;

// Where things lie in an element, for an m and a dim.
struct Layout {
  std::uint64_t vector_at;
  std::uint64_t label_at;
  std::uint64_t element_bytes;
  std::uint64_t level_bytes;  // of one level above 0

  // REQUIRES m <= kMaxM and a 32-bit dim, so that nothing overflows.
  Layout(std::uint64_t m, std::uint64_t dim)
      : vector_at(4 + 2 * m * 4), label_at(vector_at + dim * 4), element_bytes(label_at + 8), level_bytes(4 + m * 4) {}
};

double level_factor(std::uint64_t m) { return 1.0 / std::log(static_cast<double>(m)); }

struct Header {
  std::uint64_t links_at, max_elements, count, element_bytes, label_at, vector_at;
  std::int32_t top_level;
  std::uint32_t entry;
  std::uint64_t max_links, max_links_0, m;
  double level_factor;
  std::uint64_t ef_construction;
};

[[noreturn]] void fail(const std::string& what) {
  throw Error(Code::corruption, std::string("Index seems to be corrupted or unsupported: ") + what);
}

std::string number(std::uint64_t value) { return std::to_string(value); }

Header read_header(Reader& in) {
  Header header{};
  header.links_at = in.u64();
  header.max_elements = in.u64();
  header.count = in.u64();
  header.element_bytes = in.u64();
  header.label_at = in.u64();
  header.vector_at = in.u64();
  header.top_level = in.i32();
  header.entry = in.u32();
  header.max_links = in.u64();
  header.max_links_0 = in.u64();
  header.m = in.u64();
  header.level_factor = in.f64();
  header.ef_construction = in.u64();
  return header;
}

void check_header(const Header& header, std::uint32_t dim, std::size_t remaining) {
  if (header.m < kMinM || header.m > kMaxM) {
    fail("m is " + number(header.m) + ", expected " + number(kMinM) + " to " + number(kMaxM));
  }
  if (header.max_links != header.m || header.max_links_0 != 2 * header.m) {
    fail(number(header.max_links) + " and " + number(header.max_links_0) + " links do not belong to m " + number(header.m));
  }
  const Layout layout(header.m, dim);
  if (header.links_at != 0 || header.vector_at != layout.vector_at) {
    fail("links at " + number(header.links_at) + " and vector at " + number(header.vector_at) + " of an element, expected 0 and " +
         number(layout.vector_at));
  }
  if (header.label_at < header.vector_at || header.label_at != layout.label_at) {
    const bool is_dim = header.label_at > header.vector_at && (header.label_at - header.vector_at) % 4 == 0;
    fail(is_dim ? "the vectors have dim " + number((header.label_at - header.vector_at) / 4) + ", the index expects " + number(dim)
                : "label at " + number(header.label_at) + " of an element, expected " + number(layout.label_at));
  }
  if (header.element_bytes != layout.element_bytes) {
    fail("an element has " + number(header.element_bytes) + " bytes, expected " + number(layout.element_bytes));
  }
  // Written by other compilers the logarithm may differ in its last bits.
  if (!(std::abs(header.level_factor * std::log(static_cast<double>(header.m)) - 1) < 1e-9)) {
    fail("the level factor is " + std::to_string(header.level_factor) + ", expected " + std::to_string(level_factor(header.m)));
  }
  if (header.ef_construction < header.m || header.ef_construction > UINT32_MAX) {
    fail("ef_construction is " + number(header.ef_construction) + ", expected m or more, in 32 bits");
  }
  if (header.max_elements > kMostElements || header.count > header.max_elements) {
    fail(number(header.count) + " of " + number(header.max_elements) + " elements, expected at most " + number(kMostElements));
  }
  if (header.count > remaining / (layout.element_bytes + 4)) {
    fail(number(header.count) + " elements of " + number(layout.element_bytes) + " bytes do not fit the " + number(remaining) +
         " bytes after the header");
  }
  const bool is_empty = header.count == 0;
  if (is_empty ? header.top_level != -1 : header.top_level < 0 || header.entry >= header.count) {
    fail("the graph starts at element " + number(header.entry) + " on level " + std::to_string(header.top_level) + ", there are " +
         number(header.count) + " elements");
  }
}

// The links above level 0 lie behind all elements, but levels must be known before any link is restored.
class MainFile {
 public:
  MainFile(const LabelledOptions& options, const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {
    Reader in(data, size, kWhat);
    if (size < kHeaderBytes) fail("it has " + number(size) + " bytes, its header alone needs " + number(kHeaderBytes));
    header_ = read_header(in);
    check_header(header_, options.dim, in.remaining());
    layout_ = Layout(header_.m, options.dim);
    content_.options = options;
    content_.options.m = static_cast<std::uint32_t>(header_.m);
    content_.options.ef_construction = static_cast<std::uint32_t>(header_.ef_construction);
    if (options.max_elements == 0 || options.max_elements < header_.count) content_.options.max_elements = header_.max_elements;
  }

  LabelledContent read() {
    const LabelledOptions options = content_.options;
    content_ = make_content(with_room_for(options, header_.count));
    content_.options.max_elements = options.max_elements;
    read_elements();
    check_labels();
    read_levels();
    read_links();
    if (header_.count > 0) content_.graph->restore_entry({header_.entry, header_.top_level});
    return std::move(content_);
  }

 private:
  // A file can claim any max_elements: room is made for what is there, and grows.
  static LabelledOptions with_room_for(LabelledOptions options, std::uint64_t count) {
    options.max_elements = count;
    return options;
  }

  Reader element(Node node) const {
    return Reader(data_ + kHeaderBytes + node * layout_.element_bytes, static_cast<std::size_t>(layout_.element_bytes), kWhat);
  }

  void read_elements() {
    const auto count = static_cast<Node>(header_.count);
    std::vector<float> row(content_.options.dim);
    Bitset& live = content_.live.writable();
    live.resize(count);
    content_.labels.reserve(count);
    for (Node node = 0; node < count; ++node) {
      Reader in = element(node);
      const std::uint32_t word = in.u32();
      if ((word & ~kDeletedBit) > 2 * header_.m) fail("element " + number(node) + " starts with " + number(word) + ", no number of links");
      if ((word & kDeletedBit) == 0) live.set(node);
      in.skip(static_cast<std::size_t>(layout_.vector_at) - 4);
      in.numbers(row.data(), row.size());
      for (const float value : row) {
        if (!std::isfinite(value)) fail("the vector of element " + number(node) + " is not finite");
      }
      content_.vectors->append(row.data(), 1);
      content_.labels.push_back(in.u64());
    }
  }

  void check_labels() const {
    std::unordered_map<Label, Node> live_nodes;
    live_nodes.reserve(content_.labels.size());
    for (Node node = 0; node < content_.count(); ++node) {
      if (!content_.live.value().contains(node)) continue;
      const auto [place, is_new] = live_nodes.emplace(content_.labels[node], node);
      if (!is_new) {
        fail("elements " + number(place->second) + " and " + number(node) + " both have the label " + number(content_.labels[node]));
      }
    }
  }

  void read_levels() {
    const std::size_t start = kHeaderBytes + static_cast<std::size_t>(header_.count * layout_.element_bytes);
    Reader in(data_ + start, size_ - start, kWhat);
    for (Node node = 0; node < header_.count; ++node) {
      const std::uint32_t bytes = in.u32();
      if (bytes % layout_.level_bytes != 0) fail(number(bytes) + " bytes of links of element " + number(node) + " are no whole levels");
      const std::uint64_t level = bytes / layout_.level_bytes;
      if (level > static_cast<std::uint64_t>(header_.top_level)) {
        fail("element " + number(node) + " has level " + number(level) + ", the highest is " + std::to_string(header_.top_level));
      }
      upper_at_.push_back(start + in.position());
      in.skip(bytes);
      content_.graph->restore_node(node, node, static_cast<int>(level));
    }
    in.expect_end();
  }

  void read_links() {
    std::vector<Node> links(2 * header_.m);
    for (Node node = 0; node < header_.count; ++node) {
      Reader base = element(node);
      restore(node, 0, base.u32() & ~kDeletedBit, base, links);
      const int top = content_.graph->level_of(node);
      for (int level = 1; level <= top; ++level) {
        const std::size_t at = upper_at_[node] + static_cast<std::size_t>(level - 1) * static_cast<std::size_t>(layout_.level_bytes);
        Reader upper(data_ + at, static_cast<std::size_t>(layout_.level_bytes), kWhat);
        const std::uint32_t count = upper.u32();
        if (count > header_.m) fail("element " + number(node) + " has " + number(count) + " links on level " + std::to_string(level));
        restore(node, level, count, upper, links);
      }
    }
  }

  void restore(Node node, int level, std::uint32_t count, Reader& in, std::vector<Node>& links) {
    in.numbers(links.data(), count);
    // A link to itself, which hnswlib's updates can leave, is of no use.
    const auto end = std::remove(links.begin(), links.begin() + count, node);
    content_.graph->restore_links(node, level, links.data(), static_cast<std::uint32_t>(end - links.begin()));
  }

  const std::uint8_t* data_;
  std::size_t size_;
  Header header_{};
  Layout layout_{0, 0};
  LabelledContent content_;
  std::vector<std::size_t> upper_at_;  // by node: where its links above level 0 begin
};

void write_list(const Graph& graph, Node node, int level, std::uint32_t mark, std::vector<Node>& links, Writer& out) {
  std::fill(links.begin(), links.end(), 0);
  const std::uint32_t count = graph.contains(node) ? graph.copy_links(node, level, links.data()) : 0;
  out.u32(count | mark);
  out.numbers(links.data(), graph.max_links(level));
}

int saved_level(const Graph& graph, Node node) { return graph.contains(node) ? graph.level_of(node) : 0; }

}  // namespace

void write_main_file(const LabelledContent& content, Writer& out) {
  const LabelledOptions& options = content.options;
  if (content.graph == nullptr) {
    throw Error(Code::invalid_argument, "the index has no graph, and the file format has no place for that; make it with m of at least 2");
  }
  const Graph& graph = *content.graph;
  const Layout layout(options.m, options.dim);
  const Graph::Entry entry = graph.entry();
  out.u64(0);
  out.u64(options.max_elements);
  out.u64(content.count());
  out.u64(layout.element_bytes);
  out.u64(layout.label_at);
  out.u64(layout.vector_at);
  out.i32(entry.level);
  out.u32(entry.level < 0 ? UINT32_MAX : entry.node);
  out.u64(options.m);
  out.u64(2 * std::uint64_t{options.m});
  out.u64(options.m);
  out.f64(level_factor(options.m));
  out.u64(options.ef_construction);
  std::vector<Node> links(graph.max_links(0));
  for (Node node = 0; node < content.count(); ++node) {
    if (out.is_counting()) {
      out.zeros(static_cast<std::size_t>(layout.element_bytes));
      continue;
    }
    write_list(graph, node, 0, content.live.value().contains(node) ? 0 : kDeletedBit, links, out);
    out.numbers(content.vectors->row(node), options.dim);
    out.u64(content.labels[node]);
  }
  for (Node node = 0; node < content.count(); ++node) {
    const int top = saved_level(graph, node);
    out.u32(static_cast<std::uint32_t>(top * static_cast<int>(layout.level_bytes)));
    for (int level = 1; level <= top; ++level) write_list(graph, node, level, 0, links, out);
  }
}

LabelledContent read_main_file(const LabelledOptions& options, const std::uint8_t* data, std::size_t size) {
  return MainFile(options, data, size).read();
}

}  // namespace vecdb
