// What several tests of the labelled index need.
#pragma once

#include <cstdint>
#include <vector>

#include "coding.hpp"
#include "labelled.hpp"
#include "labelled_file.hpp"

namespace vecdb::test {

// The bytes of the index's main file.
inline std::vector<std::uint8_t> main_file(const LabelledIndex& index) {
  std::vector<std::uint8_t> bytes;
  index.read_all([&](const LabelledContent& content) {
    Writer size = Writer::counting();
    write_main_file(content, size);
    bytes.resize(size.position());
    Writer out(bytes.data(), bytes.size());
    write_main_file(content, out);
  });
  return bytes;
}

}  // namespace vecdb::test
