// An array that grows without ever moving: address space is reserved once and made usable piece by piece, so that readers
// keep their pointers while one writer grows it. New elements are zero bytes.
// One thread grows at a time; elements published to a reader by other means stay readable during growth.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace vecdb {

// The size of a page of this machine.
std::size_t page_size();

// Ask for huge pages wherever a whole one fits in [start, start + bytes).
void advise_huge_pages(void* start, std::size_t bytes);

// The pages behind a ReservedArray.
class Reservation {
 public:
  // Reserves max_bytes, but at most 256 GiB, less when this process has reserved much already, and halves that while the
  // system refuses, down to 1 GiB.
  explicit Reservation(std::size_t max_bytes);
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  void* base() const { return base_; }
  std::size_t reserved_bytes() const { return reserved_; }
  // Bytes that are readable and writable.
  std::size_t usable_bytes() const { return usable_; }

  // Huge pages serve memory that is filled from its start on. Where it is filled here and there, the first bytes of one would cost all of
  // it: then HugeByUse makes those huge that are used.
  enum class Pages { huge, small };
  // Make at least the first bytes bytes usable. Throws Error capacity past the reservation.
  void commit(std::size_t bytes, Pages pages = Pages::huge);
  // Show the file [0, bytes) read-only in place of memory; what is shown already stays. REQUIRES that commit was not called.
  // Rows are read from it one here, one there: the system reads no more than is touched, or asked for.
  void show_file(int fd, std::size_t bytes);
  // Show no more than the first bytes of the file: memory follows them, by commit. Throws Error invalid_argument where they end
  // within a page.
  void end_file(std::size_t bytes);
  // Show [first, last) of the file in place of memory. REQUIRES that both are ends of pages within it, and that the file's bytes are the
  // memory's: whoever reads meanwhile sees either.
  void put_file(int fd, std::size_t first, std::size_t last);
  // Have the system read bytes [first, last) of the file while this thread goes on; nothing where their middle is in memory already.
  // REQUIRES that they are shown. Any thread.
  void read_ahead(std::size_t first, std::size_t last) const;

 private:
  void check_room(std::size_t bytes) const;
  void map_file(int fd, std::size_t first, std::size_t last);

  void* base_ = nullptr;
  std::size_t reserved_ = 0;
  std::size_t usable_ = 0;
};

template <class T>
class ReservedArray {
  static_assert(std::is_trivially_destructible_v<T>, "elements are dropped with their pages");

 public:
  explicit ReservedArray(std::uint64_t max_count) : pages_(static_cast<std::size_t>(max_count) * sizeof(T)) {}

  T* data() { return static_cast<T*>(pages_.base()); }
  const T* data() const { return static_cast<const T*>(pages_.base()); }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }

  // What the writer made usable; a reader is told its count by whoever published the elements.
  std::size_t size() const { return count_; }
  std::size_t committed_bytes() const { return pages_.usable_bytes(); }

  // Make elements [0, count) usable; never shrinks.
  void grow(std::size_t count, Reservation::Pages pages = Reservation::Pages::huge) {
    if (count <= count_) return;
    pages_.commit(count * sizeof(T), pages);
    count_ = count;
  }

 private:
  Reservation pages_;
  std::size_t count_ = 0;
};

// Makes huge pages of memory that is filled in pieces: at once where the pieces come in turn, else once half of a page is filled.
// One thread grows; one at a time tells of use, meanwhile. What the memory holds never changes.
class HugeByUse {
 public:
  // Of max_bytes from start on.
  HugeByUse(void* start, std::size_t max_bytes);

  // Bytes [0, bytes) are usable from here on.
  void grow(std::size_t bytes);
  // Bytes [first, last) will be used next, and those behind them then.
  void expect(std::size_t first, std::size_t last);
  // They are used from here on.
  void note(std::size_t first, std::size_t last);

 private:
  struct Part {
    std::size_t page;
    std::size_t first;
    std::size_t last;  // in the page
  };
  // Calls visit(Part) for every huge page of which [first, last) is a part.
  template <class Visit>
  void each_page(std::size_t first, std::size_t last, const Visit& visit) const;
  void* start_of(std::size_t page) const;

  std::uint8_t* const start_;
  const std::size_t before_;           // bytes from the start of a huge page to start_
  std::atomic<std::size_t> bytes_{0};  // where huge pages may be, from start_
  ReservedArray<std::uint32_t> used_;  // bytes of each huge page
};

}  // namespace vecdb
