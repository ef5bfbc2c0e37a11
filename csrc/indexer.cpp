// Threads that take units from the field with the longest tail, and leave when there is none worth one.

#include "indexer.hpp"

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <limits>
#include <utility>

namespace vecdb {

namespace {

// A tail shorter than this is not worth a thread: scanning it costs less than a search in a graph would.
constexpr Row kWorthThread = 256;

constexpr Row kNoBound = std::numeric_limits<Row>::max();

// Where threads outnumber cores, one of this many steps less gets about a tenth of a core that another wants.
constexpr int kNicer = 10;

// Who waits may do so in slices, with other work between them.
constexpr std::chrono::milliseconds kStillWaiting{200};

// A tail is bounded for the sake of searches. Where none has come for this long, as in a first load, writers are not held up by a tail
// before scanning it would take some milliseconds.
constexpr std::chrono::seconds kStillSearching{10};
constexpr Row kUnsearchedBounds = 32;

// Lets the other threads of the machine go first, for the rest of this thread's life. Advice: where the system has no such thing, or
// refuses, the thread works as any other.
void give_way() noexcept {
#if defined(__linux__)
  const auto self = static_cast<id_t>(syscall(SYS_gettid));
  const int now = getpriority(PRIO_PROCESS, self);
  static_cast<void>(setpriority(PRIO_PROCESS, self, now + kNicer));
#endif
}

}  // namespace

Indexer::Indexer(std::vector<IndexedField*> fields, std::uint32_t threads) : fields_(std::move(fields)), threads_(threads) {}

Row Indexer::most_unclaimed(FieldGraph::Work work) const {
  Row most = 0;
  for (IndexedField* field : fields_) most = std::max(most, field->graph().unclaimed(field->rows(), work));
  return most;
}

Row Indexer::most_unlinked() const {
  Row most = 0;
  for (IndexedField* field : fields_) most = std::max(most, field->links().unclaimed());
  return most;
}

bool Indexer::all_covered() const {
  return std::all_of(fields_.begin(), fields_.end(),
                     [](IndexedField* field) { return !field->graph().is_behind(field->rows()) && field->links().waiting() == 0; });
}

bool Indexer::advance_links(const std::atomic<bool>& stop) {
  return std::any_of(fields_.begin(), fields_.end(), [&stop](IndexedField* field) { return field->links().advance(stop); });
}

FieldGraph::Progress Indexer::advance_longest(Row max_rows, FieldGraph::Work work, const std::atomic<bool>& stop) {
  IndexedField* longest = nullptr;
  Row most = 0;
  for (IndexedField* field : fields_) {
    const Row unclaimed = field->graph().unclaimed(field->rows(), work);
    if (unclaimed <= most) continue;
    most = unclaimed;
    longest = field;
  }
  if (longest == nullptr) return {false, 0};
  return longest->graph().advance(longest->rows(), max_rows, work, *longest, stop);
}

void Indexer::wake() noexcept { start_workers(kWorthThread); }

void Indexer::set_threads(std::uint32_t threads) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    threads_ = threads;
  }
  wake();
}

void Indexer::start_workers(Row from) noexcept {
  const Row most = std::max(most_unclaimed(upkeep()), most_unlinked());
  if (most < from) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto worker = workers_.begin(); worker != workers_.end();) {
    if (!worker->has_ended) {
      ++worker;
      continue;
    }
    worker->thread.join();
    worker = workers_.erase(worker);
  }
  // One thread for each stretch of work that is worth one.
  const std::uint32_t useful = std::min<std::uint32_t>(threads_, 1 + most / kWorthThread);
  while (running_ < useful && !stopping_) {
    try {
      Worker& worker = workers_.emplace_back();
      worker.gives_way = waiting_ == 0;
      try {
        worker.thread = std::thread([this, &worker] { work(worker); });
      } catch (...) {
        workers_.pop_back();
        throw;
      }
      ++running_;
    } catch (const std::exception&) {
      return;  // no thread to be had now: the next write tries again, writers help above the bound, and waiters work themselves
    }
  }
}

// REQUIRES mutex_.
bool Indexer::is_hurried() const { return waiting_ > 0 || std::chrono::steady_clock::now() < last_wait_ + kStillWaiting; }

// A thread cannot take back that it gave way: somebody who waits makes those leave that did, and gets others.
void Indexer::work(Worker& self) noexcept {
  bool gives_way = self.gives_way;
  if (gives_way) give_way();
  for (;;) {
    const std::atomic<bool>& stop = gives_way ? gives_up_ : stopping_;
    std::exception_ptr failure;
    bool has_worked = false;
    try {
      has_worked = advance_longest(kNoBound, upkeep(), stop).has_worked || advance_links(stop);
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    progress_.notify_all();
    const bool has_failed = failure != nullptr;
    if (has_failed) failure_ = std::move(failure);  // with it goes the exception: whoever throws it again is its only owner
    // Looked at again under the lock: work that appeared since then either is seen here, or its wake() finds this thread gone.
    const bool is_surplus = running_ > threads_;
    const bool is_too_slow = gives_way && waiting_ > 0;
    if (has_failed || stopping_ || is_surplus || is_too_slow ||
        (!has_worked && std::max(most_unclaimed(upkeep()), most_unlinked()) < (waiting_ > 0 ? 1 : kWorthThread))) {
      --running_;
      self.has_ended = true;
      return;
    }
    if (!gives_way && !is_hurried()) {
      give_way();
      gives_way = true;
    }
  }
}

void Indexer::rethrow_failure() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

// REQUIRES mutex_. How many times its bound a tail may be long.
Row Indexer::bounds_allowed() {
  const auto now = std::chrono::steady_clock::now();
  if (has_searched_.exchange(false)) last_search_ = now;
  return now < last_search_ + kStillSearching ? 1 : kUnsearchedBounds;
}

std::uint32_t Indexer::help(std::uint32_t max_rows) {
  Row bounds = 1;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    rethrow_failure();
    bounds = bounds_allowed();
  }
  const auto is_over = [bounds](IndexedField* field) { return field->graph().tail(field->rows()) > bounds * field->graph().bound(); };
  std::uint32_t done = 0;
  while (done < max_rows && std::any_of(fields_.begin(), fields_.end(), is_over)) {
    const FieldGraph::Progress step = advance_longest(max_rows - done, FieldGraph::Work::linking, stopping_);
    if (!step.has_worked) break;  // all of it is in other threads' hands
    done += step.rows;
  }
  if (done > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    progress_.notify_all();
  }
  return done;
}

// REQUIRE mutex_.
void Indexer::begin_waiting() {
  ++waiting_;
  gives_up_ = true;
}
void Indexer::end_waiting() {
  --waiting_;
  last_wait_ = std::chrono::steady_clock::now();
  if (waiting_ == 0 && !stopping_) gives_up_ = false;
}

bool Indexer::wait(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::unique_lock<std::mutex> lock(mutex_);
  begin_waiting();
  const auto leave = [&](bool covered) {
    end_waiting();
    return covered;
  };
  for (;;) {
    if (failure_) {
      end_waiting();
      rethrow_failure();
    }
    if (all_covered()) return leave(true);
    if (std::chrono::steady_clock::now() >= deadline || stopping_) return leave(false);
    if (threads_ > 0) {
      lock.unlock();
      start_workers(1);
      lock.lock();
    }
    if (running_ == 0 && !failure_) {
      lock.unlock();
      bool has_worked = false;
      try {
        has_worked = advance_longest(kNoBound, FieldGraph::Work::upkeep_now, stopping_).has_worked || advance_links(stopping_);
      } catch (...) {
        lock.lock();
        end_waiting();
        throw;
      }
      lock.lock();
      if (has_worked) continue;
    }
    // Bounded, because a helping writer finishes units without being a worker.
    progress_.wait_until(lock, std::min(deadline, std::chrono::steady_clock::now() + std::chrono::milliseconds(20)));
  }
}

void Indexer::stop() noexcept {
  stopping_ = true;
  std::list<Worker> workers;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    gives_up_ = true;
    workers.swap(workers_);
    progress_.notify_all();
  }
  for (Worker& worker : workers) worker.thread.join();
}

}  // namespace vecdb
