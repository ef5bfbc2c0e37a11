// Runs all registered tests, or those whose names contain the first argument. `--list` prints the names of all, each after "threads" or
// "alone"; `--asked` runs tests by the names it reads, one a line, each as soon as it is read. Before a test's name stand the seconds it
// took of CPU time. Exit status 0 only when all passed, and there were some.

#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <iostream>

#include "check.hpp"
#include "thread_count.hpp"

namespace vecdb::test {

std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}

void fail(const char* file, int line, const std::string& message) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + message);
}

namespace {

// ThreadSanitizer is run on the tests marked as threaded alone: it has nothing to find in a test that starts no thread. That the marks are
// complete is looked at here, wherever threads are counted.
void run_body(const Test& test) {
  const std::uint64_t before = threads_started();
  test.body();
  if (test.threads == Threads::none && threads_started() != before) {
    throw std::runtime_error("it started a thread: write THREADED_TEST, so that ThreadSanitizer is run on it");
  }
}

class Run {
 public:
  void run(const Test& test) {
    const std::clock_t start = std::clock();
    std::string failure;
    try {
      run_body(test);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    if (!failure.empty()) std::printf("        %s\n", failure.c_str());
    std::printf("%s %6.2f  %s\n", failure.empty() ? "ok    " : "FAILED", seconds, test.name);
    std::fflush(stdout);
    ++(failure.empty() ? passed_ : failed_);
  }

  // The exit status.
  int finish() const {
    if (passed_ + failed_ == 0) std::printf("no such test\n");
    return failed_ == 0 && passed_ > 0 ? 0 : 1;
  }

 private:
  int passed_ = 0;
  int failed_ = 0;
};

void list_all() {
  for (const Test& test : all_tests()) std::printf("%s %s\n", test.threads == Threads::some ? "threads" : "alone", test.name);
}

int run_asked() {
  Run run;
  for (std::string name; std::getline(std::cin, name);) {
    for (const Test& test : all_tests()) {
      if (name == test.name) run.run(test);
    }
  }
  return run.finish();
}

}  // namespace
}  // namespace vecdb::test

int main(int argc, char** argv) {
  using namespace vecdb::test;
  if (argc > 1 && std::strcmp(argv[1], "--list") == 0) {
    list_all();
    return 0;
  }
  if (argc > 1 && std::strcmp(argv[1], "--asked") == 0) return run_asked();
  Run run;
  for (const Test& test : all_tests()) {
    if (argc == 1 || std::strstr(test.name, argv[1]) != nullptr) run.run(test);
  }
  return run.finish();
}
