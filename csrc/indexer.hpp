// Moves the tails of all fields into their graphs, and then members of tags into their links: by background threads that live only while
// there is work, by writers that help, or by those who wait for it.
//
// Invariant: an idle index has no thread; stop() leaves none running. Background threads give way to all others, until somebody waits. An
// error of a background thread is kept and thrown by the next help or wait. Thread rule: every call is thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "field_graph.hpp"
#include "linked_sets.hpp"
#include "types.hpp"

namespace vecdb {

// One field's work as the indexer sees it.
class IndexedField : public LiveRows {
 public:
  virtual FieldGraph& graph() = 0;
  virtual LinkedSets& links() = 0;
  // Rows that searches see. Safe at any time.
  virtual FieldRows rows() const = 0;
};

class Indexer {
 public:
  // fields must outlive the indexer. At most `threads` run in the background.
  Indexer(std::vector<IndexedField*> fields, std::uint32_t threads);
  ~Indexer() { stop(); }
  Indexer(const Indexer&) = delete;
  Indexer& operator=(const Indexer&) = delete;

  // There may be work: starts threads where a tail is long enough to be worth one. Never throws.
  void wake() noexcept;
  void set_threads(std::uint32_t threads) noexcept;
  // A search has begun: for some seconds tails are held to their bounds. Cheap.
  void note_search() noexcept {
    if (!has_searched_.load(std::memory_order_relaxed)) has_searched_.store(true, std::memory_order_relaxed);
  }
  // Work in this thread while a tail is longer than its bound, or, as long as nobody searches, than 32 times that, on at most max_rows
  // rows; returns how many were done.
  std::uint32_t help(std::uint32_t max_rows);
  // Wait until no tail needs a graph; false when that took too long. Works itself when no background thread does.
  bool wait(std::chrono::milliseconds timeout);
  void stop() noexcept;

 private:
  struct Worker {
    std::thread thread;
    bool gives_way = true;
    bool has_ended = false;
  };

  Row most_unclaimed(FieldGraph::Work work) const;
  Row most_unlinked() const;
  // What background threads do: all that is due, sooner while somebody waits.
  FieldGraph::Work upkeep() const { return waiting_ > 0 ? FieldGraph::Work::upkeep_now : FieldGraph::Work::upkeep; }
  bool all_covered() const;
  bool advance_links(const std::atomic<bool>& stop);
  FieldGraph::Progress advance_longest(Row max_rows, FieldGraph::Work work, const std::atomic<bool>& stop);
  bool is_hurried() const;
  Row bounds_allowed();
  void begin_waiting();
  void end_waiting();
  void start_workers(Row from) noexcept;
  void work(Worker& self) noexcept;
  void rethrow_failure();

  const std::vector<IndexedField*> fields_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint32_t> waiting_{0};  // callers of wait: they want even the shortest tail done
  std::atomic<bool> has_searched_{false};  // since help looked last
  // What a thread of low priority has begun somebody may wait for, and for long on a busy machine: then it gives that up.
  std::atomic<bool> gives_up_{false};

  std::mutex mutex_;  // guards what follows
  std::condition_variable progress_;
  std::uint32_t threads_;
  std::uint32_t running_ = 0;
  std::list<Worker> workers_;
  std::exception_ptr failure_;
  std::chrono::steady_clock::time_point last_wait_{};    // when somebody ceased to wait
  std::chrono::steady_clock::time_point last_search_{};  // when help last learnt of one
};

}  // namespace vecdb
