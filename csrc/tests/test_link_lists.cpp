// The lists of links by themselves: on both sides of the number of nodes up to which a link takes 16 bits.

#include <algorithm>
#include <vector>

#include "check.hpp"
#include "link_lists.hpp"

namespace vecdb::test {
namespace {

constexpr Node kMostNarrow = 65535;

TEST(links_lead_to_the_last_nodes_on_both_sides_of_16_bits) {
  for (const Node capacity : {kMostNarrow, kMostNarrow + 1}) {
    LinkLists lists(4, capacity);
    const std::vector<Node> last = {capacity - 1, capacity - 2, 1};
    lists.prepare(0, 0, 1);
    for (const Node node : last) lists.prepare(node, node, 1);
    for (const int level : {0, 1}) {
      lists.append(0, level, 0, capacity - 1);
      std::vector<Node> links(lists.max_links(level));
      CHECK_EQUAL(1U, lists.copy(0, level, links.data()));
      CHECK_EQUAL(capacity - 1, links[0]);
      lists.replace(0, level, last.data(), 3);
      LinkLists larger(4, capacity + 1);
      larger.copy_from(lists);
      for (const LinkLists* const copy : {&lists, &larger}) {
        CHECK_EQUAL(3U, copy->copy(0, level, links.data()));
        CHECK(std::equal(last.begin(), last.end(), links.begin()));
        CHECK_EQUAL(0U, copy->copy(1, 0, links.data()));
      }
    }
  }
}

}  // namespace
}  // namespace vecdb::test
