// Pages of a ReservedArray: mmap without access rights reserves, mprotect makes usable, a file is shown by mapping it over.

#include "reserved.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "error.hpp"

namespace vecdb {
namespace {

constexpr std::size_t kMaxReserved = std::size_t{256} << 30;
constexpr std::size_t kMinReserved = std::size_t{1} << 30;

// A reservation takes at most a 128th of what is left of a budget of address space (a process has 128 TiB), so that
// thousands of small collections can be open beside a few large ones.
#if defined(__SANITIZE_THREAD__)
#define VECDB_LITTLE_ADDRESS_SPACE
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VECDB_LITTLE_ADDRESS_SPACE
#endif
#endif
#if defined(VECDB_LITTLE_ADDRESS_SPACE)
constexpr std::size_t kBudget = std::size_t{512} << 30;
#else
constexpr std::size_t kBudget = std::size_t{96} << 40;
#endif
constexpr std::size_t kBudgetShare = 128;
std::atomic<std::size_t> reserved_in_process{0};

constexpr std::size_t kSmallestStep = std::size_t{64} << 10;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// Below this, huge pages would cost a small collection more memory than they save time.
constexpr std::size_t kHugeFrom = std::size_t{8} << 20;
constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers lack

std::size_t round_up(std::size_t bytes, std::size_t step) { return (bytes + step - 1) / step * step; }

// The size of a file, which must have so many bytes.
std::size_t checked_size(int fd, std::size_t bytes) {
  struct stat status;
  if (fstat(fd, &status) != 0) {
    throw Error(Code::storage_error, std::string("the file of vectors cannot be examined (") + std::strerror(errno) + ")");
  }
  const std::size_t size = static_cast<std::size_t>(status.st_size);
  if (size < bytes) {
    throw Error(Code::corruption, "the file of vectors has " + std::to_string(size) + " bytes, expected at least " + std::to_string(bytes) +
                                      "; restore it from a backup");
  }
  return size;
}

std::uint8_t* at(void* base, std::size_t byte) { return static_cast<std::uint8_t*>(base) + byte; }

}  // namespace

std::size_t page_size() {
  static const std::size_t size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

void advise_huge_pages(void* start, std::size_t bytes) {
#ifdef MADV_HUGEPAGE
  std::size_t space = bytes;
  if (bytes < kHugePage || std::align(kHugePage, kHugePage, start, space) == nullptr) return;
  // Advice only: where the kernel has no huge pages, small ones serve as well.
  static_cast<void>(madvise(start, space / kHugePage * kHugePage, MADV_HUGEPAGE));
#else
  static_cast<void>(start);
  static_cast<void>(bytes);
#endif
}

Reservation::Reservation(std::size_t max_bytes) {
  const std::size_t taken = reserved_in_process.load(std::memory_order_relaxed);
  const std::size_t share = std::max(kMinReserved, (kBudget - std::min(taken, kBudget)) / kBudgetShare);
  std::size_t bytes = round_up(std::clamp<std::size_t>(max_bytes, 1, std::min(share, kMaxReserved)), page_size());
  while (true) {
    void* base = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base != MAP_FAILED) {
      base_ = base;
      reserved_ = bytes;
      reserved_in_process.fetch_add(bytes, std::memory_order_relaxed);
      return;
    }
    if (bytes / 2 < kMinReserved) {
      throw Error(Code::out_of_memory, "the system refused to reserve " + std::to_string(bytes) + " bytes of address space (" +
                                           std::strerror(errno) + "); raise the limit of address space (ulimit -v) or close collections");
    }
    bytes = round_up(bytes / 2, page_size());
  }
}

Reservation::~Reservation() {
  munmap(base_, reserved_);
  reserved_in_process.fetch_sub(reserved_, std::memory_order_relaxed);
}

void Reservation::check_room(std::size_t bytes) const {
  if (bytes > reserved_) {
    throw Error(Code::capacity, std::to_string(bytes) + " bytes are needed, " + std::to_string(reserved_) +
                                    " bytes of address space were reserved; divide the points among more collections");
  }
}

void Reservation::commit(std::size_t bytes, Pages pages) {
  if (bytes <= usable_) return;
  check_room(bytes);
  // Steps grow with the array, so that appending costs few system calls; untouched pages cost no memory.
  const std::size_t step = std::max(kSmallestStep, std::min(usable_ / 4, std::size_t{1} << 30));
  const std::size_t wanted = std::min(round_up(std::max(bytes, usable_ + step), bytes >= kHugeFrom ? kHugePage : kSmallestStep), reserved_);
  if (mprotect(at(base_, usable_), wanted - usable_, PROT_READ | PROT_WRITE) != 0) {
    throw Error(Code::out_of_memory, "the system refused " + std::to_string(wanted - usable_) + " bytes of memory (" +
                                         std::strerror(errno) + ") beyond the " + std::to_string(usable_) +
                                         " in use; free memory or store fewer points");
  }
  if (wanted >= kHugeFrom && pages == Pages::huge) advise_huge_pages(at(base_, usable_), wanted - usable_);
  usable_ = wanted;
}

void Reservation::show_file(int fd, std::size_t bytes) {
  if (bytes <= usable_) return;
  check_room(bytes);
  const std::size_t file_bytes = checked_size(fd, bytes);
  // All of the file is shown, also what is written later, so that a growing file needs few mappings.
  const std::size_t whole_pages = std::min(file_bytes / page_size() * page_size(), reserved_);
  const std::size_t wanted = std::max(round_up(bytes, page_size()), whole_pages);
  map_file(fd, usable_, wanted);
  usable_ = wanted;
}

void Reservation::end_file(std::size_t bytes) {
  if (bytes % page_size() != 0 || bytes > usable_) {
    throw Error(Code::invalid_argument, "memory is to follow " + std::to_string(bytes) + " bytes of a file, of which " +
                                            std::to_string(usable_) + " are shown: expected whole pages of " + std::to_string(page_size()) +
                                            " bytes");
  }
  if (bytes == usable_) return;
  if (mmap(at(base_, bytes), usable_ - bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
    throw Error(Code::out_of_memory, "the system refused to reserve " + std::to_string(usable_ - bytes) +
                                         " bytes behind the file of vectors (" + std::strerror(errno) +
                                         "); free memory or close collections");
  }
  usable_ = bytes;
}

void Reservation::put_file(int fd, std::size_t first, std::size_t last) {
  if (first % page_size() != 0 || last % page_size() != 0 || first > last || last > usable_) {
    throw Error(Code::internal, "bytes " + std::to_string(first) + " to " + std::to_string(last) + " of a file are to take the place of " +
                                    std::to_string(usable_) + " in memory; please report this");
  }
  checked_size(fd, last);
  if (first < last) map_file(fd, first, last);
}

void Reservation::map_file(int fd, std::size_t first, std::size_t last) {
  if (mmap(at(base_, first), last - first, PROT_READ, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(first)) == MAP_FAILED) {
    throw Error(Code::storage_error, "the system refused to map " + std::to_string(last - first) + " bytes of the file of vectors (" +
                                         std::strerror(errno) + ")");
  }
  // Otherwise each row that is not in memory brings a neighbourhood of 128 KiB, which drives out what is needed where memory is short.
  static_cast<void>(madvise(at(base_, first), last - first, MADV_RANDOM));
}

void Reservation::read_ahead(std::size_t first, std::size_t last) const {
  const std::size_t start = first / page_size() * page_size();
  if (start >= last) return;
  // Advice only: without it, or where the answer is wrong, pages are read when they are touched.
#if defined(__linux__)
  unsigned char in_memory = 0;
  const std::size_t middle = (start + (last - start) / 2) / page_size() * page_size();
  if (mincore(at(base_, middle), page_size(), &in_memory) == 0 && (in_memory & 1U) != 0) return;
#endif
  static_cast<void>(madvise(at(base_, start), last - start, MADV_WILLNEED));
}

namespace {

// How many bytes of a huge page come before this one.
std::size_t before_in_huge_page(void* byte) {
  std::size_t space = 2 * kHugePage;
  std::align(kHugePage, kHugePage, byte, space);
  return space % kHugePage;
}

}  // namespace

HugeByUse::HugeByUse(void* start, std::size_t max_bytes)
    : start_(static_cast<std::uint8_t*>(start)), before_(before_in_huge_page(start)), used_((before_ + max_bytes) / kHugePage + 1) {}

void HugeByUse::grow(std::size_t bytes) {
  if (bytes < kHugeFrom) return;
  used_.grow((before_ + bytes) / kHugePage + 1);
  bytes_.store(bytes, std::memory_order_release);
}

// Of the first huge page, a part may belong to something else.
template <class Visit>
void HugeByUse::each_page(std::size_t first, std::size_t last, const Visit& visit) const {
  const std::size_t end = before_ + std::min(last, bytes_.load(std::memory_order_acquire));
  for (std::size_t page = std::max<std::size_t>((before_ + first) / kHugePage, before_ == 0 ? 0 : 1); page * kHugePage < end; ++page) {
    const std::size_t from = page * kHugePage;
    visit({page, std::max(from, before_ + first) - from, std::min(from + kHugePage, end) - from});
  }
}

void* HugeByUse::start_of(std::size_t page) const { return start_ + (page * kHugePage - before_); }

void HugeByUse::expect(std::size_t first, std::size_t last) {
  each_page(first, last, [this](const Part& part) {
    if (part.first == 0 || used_[part.page] == 0) advise_huge_pages(start_of(part.page), kHugePage);
  });
}

void HugeByUse::note(std::size_t first, std::size_t last) {
  each_page(first, last, [this](const Part& part) {
    const std::uint32_t before = used_[part.page];
    used_[part.page] += static_cast<std::uint32_t>(part.last - part.first);
    if (before >= kHugePage / 2 || used_[part.page] < kHugePage / 2) return;
#if defined(__linux__)
    if (madvise(start_of(part.page), kHugePage, kCollapse) == 0 || errno != EINVAL) return;
    // Before Linux 6.1 all that can be done is to ask for huge pages; each single one would be a mapping of its own.
    advise_huge_pages(start_, bytes_.load(std::memory_order_relaxed));
#endif
  });
}

}  // namespace vecdb
