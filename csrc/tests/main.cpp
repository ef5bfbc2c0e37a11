// Runs all registered tests, or those whose names contain the first argument, or, with `--share I N`, every Nth from the Ith on. Exit
// status 0 only when all passed, and there were some.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "check.hpp"

namespace vecdb::test {

std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}

void fail(const char* file, int line, const std::string& message) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + message);
}

}  // namespace vecdb::test

int main(int argc, char** argv) {
  int passed = 0;
  int failed = 0;
  const bool is_share = argc == 4 && std::strcmp(argv[1], "--share") == 0;
  const long first = is_share ? std::atol(argv[2]) : 0;
  const long step = is_share ? std::atol(argv[3]) : 1;
  long number = -1;
  for (const vecdb::test::Test& test : vecdb::test::all_tests()) {
    ++number;
    if (is_share ? number % step != first : argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    try {
      test.body();
      ++passed;
      std::printf("ok      %s\n", test.name);
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED  %s\n        %s\n", test.name, error.what());
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
