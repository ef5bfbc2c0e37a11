// The two files of a labelled index. The main file is hnswlib 0.8.0's, byte for byte: a header of 13 numbers without magic, version or
// checksum; for every point its links at level 0 with the delete mark, its vector and its label; for every point the links above. The tag
// file is this project's own and names the main file's CRC32C.
//
// A reader trusts nothing: each size, offset, count, link, level and label is checked before it is used. Thread rule: the content must not
// change meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "coding.hpp"
#include "labelled_content.hpp"

namespace vecdb {

// Throws Error invalid_argument for a content without graph.
void write_main_file(const LabelledContent& content, Writer& out);

// options say what a file does not (dim, metric, seed, deleted_places); their max_elements is taken unless it is 0 or below the count in
// the file.
// Throws Error corruption.
LabelledContent read_main_file(const LabelledOptions& options, const std::uint8_t* data, std::size_t size);

// Writes nothing when there are neither tags nor links.
void write_tag_file(const LabelledContent& content, std::uint32_t main_crc, Writer& out);

// Adds tags and links to a content that was read from the main file with this CRC32C. Throws Error corruption.
void read_tag_file(LabelledContent& content, std::uint32_t main_crc, const std::uint8_t* data, std::size_t size);

}  // namespace vecdb
