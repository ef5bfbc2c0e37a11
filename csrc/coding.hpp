// Little-endian numbers in byte ranges. A Reader never reads past its end: it throws Error corruption that names the
// file's part and the position. A Writer never writes past its end; without a buffer it only counts.
// Not thread-safe, as an iterator is not.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "error.hpp"

namespace vecdb {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie in memory; big-endian CPUs need swaps here");

class Reader {
 public:
  // what names the bytes in error messages, and must outlive the reader.
  Reader(const std::uint8_t* data, std::size_t size, const char* what) : data_(data), size_(size), what_(what) {}

  std::size_t position() const { return position_; }
  std::size_t remaining() const { return size_ - position_; }

  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint16_t u16() { return number<std::uint16_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  std::int32_t i32() { return number<std::int32_t>(); }
  std::int64_t i64() { return number<std::int64_t>(); }
  float f32() { return number<float>(); }
  double f64() { return number<double>(); }

  // The next size bytes, in place.
  const std::uint8_t* bytes(std::size_t size) {
    need(size);
    const std::uint8_t* start = data_ + position_;
    position_ += size;
    return start;
  }

  // The next count numbers, copied out; checks the range before it multiplies.
  template <class T>
  void numbers(T* out, std::size_t count) {
    static_assert(std::is_arithmetic_v<T>, "only numbers have a byte order");
    if (count > remaining() / sizeof(T)) fail(std::to_string(count) + " numbers of " + std::to_string(sizeof(T)) + " bytes");
    if (count > 0) std::memcpy(out, bytes(count * sizeof(T)), count * sizeof(T));
  }

  void skip(std::size_t size) { bytes(size); }

  // REQUIRES nothing; throws unless everything was read.
  void expect_end() const {
    if (remaining() != 0) {
      throw Error(Code::corruption, std::string(what_) + ": " + std::to_string(remaining()) + " bytes follow its end at byte " +
                                        std::to_string(position_) + ", expected none");
    }
  }

 private:
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof(T)), sizeof(T));
    return value;
  }

  void need(std::size_t size) const {
    if (size > remaining()) fail(std::to_string(size) + " bytes");
  }

  [[noreturn]] void fail(const std::string& wanted) const {
    throw Error(Code::corruption, std::string(what_) + ": expected " + wanted + " at byte " + std::to_string(position_) + ", only " +
                                      std::to_string(remaining()) + " bytes are left");
  }

  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t position_ = 0;
  const char* what_;
};

class Writer {
 public:
  Writer(std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  // A writer that only counts: position() is then the size that the same calls need.
  static Writer counting() { return Writer(nullptr, SIZE_MAX); }

  std::size_t position() const { return position_; }
  bool is_counting() const { return data_ == nullptr; }
  // What was written so far, from byte 0. REQUIRES a buffer.
  const std::uint8_t* data() const { return data_; }

  void u8(std::uint8_t value) { bytes(&value, sizeof(value)); }
  void u16(std::uint16_t value) { bytes(&value, sizeof(value)); }
  void u32(std::uint32_t value) { bytes(&value, sizeof(value)); }
  void u64(std::uint64_t value) { bytes(&value, sizeof(value)); }
  void i32(std::int32_t value) { bytes(&value, sizeof(value)); }
  void i64(std::int64_t value) { bytes(&value, sizeof(value)); }
  void f32(float value) { bytes(&value, sizeof(value)); }
  void f64(double value) { bytes(&value, sizeof(value)); }

  template <class T>
  void numbers(const T* values, std::size_t count) {
    static_assert(std::is_arithmetic_v<T>, "only numbers have a byte order");
    bytes(values, count * sizeof(T));
  }

  void bytes(const void* source, std::size_t size) {
    need(size);
    if (data_ != nullptr && size > 0) std::memcpy(data_ + position_, source, size);
    position_ += size;
  }

  void zeros(std::size_t size) {
    need(size);
    if (data_ != nullptr && size > 0) std::memset(data_ + position_, 0, size);
    position_ += size;
  }

 private:
  void need(std::size_t size) const {
    if (size > size_ - position_) {
      throw Error(Code::invalid_argument, "the buffer holds " + std::to_string(size_) + " bytes, " + std::to_string(size) +
                                              " more do not fit at byte " + std::to_string(position_) + "; ask for the size first");
    }
  }

  std::uint8_t* data_;
  std::size_t size_;
  std::size_t position_ = 0;
};

}  // namespace vecdb
