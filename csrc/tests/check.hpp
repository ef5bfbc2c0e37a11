// A small test frame: TEST(name_as_a_sentence) { ... CHECK(...); CHECK_EQUAL(expected, actual); }, and THREADED_TEST where anything in it
// starts a thread.
// A failing check throws, so that a test ends at its first failure; every test runs.
#pragma once

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "error.hpp"

namespace vecdb::test {

// Everything takes many times as long under a sanitizer; a test that goes round long enough without may take fewer rounds there.
#ifdef VECDB_SANITIZED
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

enum class Threads { none, some };

struct Test {
  const char* name;
  Threads threads;
  std::function<void()> body;
};

std::vector<Test>& all_tests();

struct Registration {
  Registration(const char* name, Threads threads, std::function<void()> body) { all_tests().push_back({name, threads, std::move(body)}); }
};

[[noreturn]] void fail(const char* file, int line, const std::string& message);

template <class Expected, class Actual>
void check_equal(const char* file, int line, const char* expression, const Expected& expected, const Actual& actual) {
  if (expected == actual) return;
  std::ostringstream message;
  message << expression << " is " << actual << ", expected " << expected;
  fail(file, line, message.str());
}

// Runs body, which must throw Error of this code; returns the message.
template <class Body>
std::string check_throws(const char* file, int line, Code code, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    check_equal(file, line, "the error's code", static_cast<int>(code), static_cast<int>(error.code()));
    return error.what();
  }
  fail(file, line, "nothing was thrown");
}

}  // namespace vecdb::test

#define VECDB_TEST(name, threads)                                                            \
  static void test_##name();                                                                 \
  static const ::vecdb::test::Registration registration_##name(#name, threads, test_##name); \
  static void test_##name()
#define TEST(name) VECDB_TEST(name, ::vecdb::test::Threads::none)
#define THREADED_TEST(name) VECDB_TEST(name, ::vecdb::test::Threads::some)

#define CHECK(condition) ((condition) ? void(0) : ::vecdb::test::fail(__FILE__, __LINE__, "expected " #condition))
#define CHECK_EQUAL(expected, actual) ::vecdb::test::check_equal(__FILE__, __LINE__, #actual, (expected), (actual))
// The rest of the arguments are the statements that must throw.
#define CHECK_THROWS(code, ...) ::vecdb::test::check_throws(__FILE__, __LINE__, (code), [&] { __VA_ARGS__; })
