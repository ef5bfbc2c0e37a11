// What the two benchmark drivers share: a loop that answers one command a line with one line of JSON, arrays from files, timed queries.
//
// A command is `name key=value key=value ...`; values hold no blanks. An error ends the driver after a line {"error": ...}.
// Thread rule: the command loop is single-threaded.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;
constexpr std::uint32_t kNoHit = 0xFFFFFFFF;

inline double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Command {
 public:
  explicit Command(const std::string& line) {
    std::istringstream words(line);
    words >> name_;
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      if (equals == std::string::npos) throw std::runtime_error("'" + word + "' is not key=value");
      values_[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }

  const std::string& name() const { return name_; }
  bool has(const std::string& key) const { return values_.count(key) != 0; }
  const std::string& text(const std::string& key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) throw std::runtime_error("command " + name_ + " needs " + key + "=");
    return found->second;
  }
  std::uint64_t number(const std::string& key) const { return std::stoull(text(key)); }
  std::uint64_t number(const std::string& key, std::uint64_t otherwise) const { return has(key) ? number(key) : otherwise; }

 private:
  std::string name_;
  std::map<std::string, std::string> values_;
};

template <class T>
std::vector<T> read_array(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + path);
  const auto size = static_cast<std::size_t>(file.tellg());
  if (size % sizeof(T) != 0) throw std::runtime_error(path + " has " + std::to_string(size) + " bytes, not a whole number of elements");
  std::vector<T> values(size / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(size));
  if (!file) throw std::runtime_error("cannot read all of " + path);
  return values;
}

template <class T>
void write_array(const std::string& path, const std::vector<T>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// One line of JSON, numbers only.
class Answer {
 public:
  Answer& add(const std::string& key, double value) { return put(key, number(value)); }
  Answer& add(const std::string& key, const std::vector<double>& values) {
    std::string list;
    for (const double value : values) list += (list.empty() ? "" : ", ") + number(value);
    return put(key, "[" + list + "]");
  }
  std::string line() const { return "{" + text_ + "}"; }

 private:
  static std::string number(double value) {
    if (!(value - value == 0)) return "null";
    std::ostringstream out;
    out.precision(15);
    out << value;
    return out.str();
  }
  Answer& put(const std::string& key, const std::string& value) {
    text_ += (text_.empty() ? "\"" : ", \"") + key + "\": " + value;
    return *this;
  }

  std::string text_;
};

// Keeps the calling thread on one CPU while it lives.
class Pinned {
 public:
  explicit Pinned(const Command& command) {
    if (!command.has("cpu")) return;
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(command.number("cpu"), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) throw std::runtime_error("cannot run on cpu " + command.text("cpu"));
    is_pinned_ = true;
  }
  ~Pinned() {
    if (is_pinned_) sched_setaffinity(0, sizeof before_, &before_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

 private:
  cpu_set_t before_{};
  bool is_pinned_ = false;
};

// Microseconds of single calls -> p50, p99 and the worst.
inline void add_latencies(Answer& answer, std::vector<double> micros) {
  if (micros.empty()) return;
  std::sort(micros.begin(), micros.end());
  const auto at = [&](double share) { return micros[std::min(micros.size() - 1, static_cast<std::size_t>(share * micros.size()))]; };
  answer.add("p50_us", at(0.5)).add("p99_us", at(0.99)).add("max_us", micros.back()).add("calls", static_cast<double>(micros.size()));
}

// Run search(i) for i in [first, last) in steps, as often as asked, after one pass that warms caches; each pass and each call is timed.
inline Answer timed_passes(const Command& command, std::size_t first, std::size_t last, std::size_t step,
                           const std::function<void(std::size_t)>& search) {
  const Pinned pinned(command);
  std::vector<double> passes;
  std::vector<double> micros;
  for (std::uint64_t pass = 0; pass <= command.number("passes"); ++pass) {
    const Clock::time_point start = Clock::now();
    for (std::size_t i = first; i < last; i += step) {
      const Clock::time_point begin = Clock::now();
      search(i);
      if (pass != 0) micros.push_back(seconds_since(begin) * 1e6);
    }
    if (pass != 0) passes.push_back(seconds_since(start));
  }
  Answer answer;
  answer.add("pass_seconds", passes);
  add_latencies(answer, std::move(micros));
  return answer;
}

using Handlers = std::map<std::string, std::function<Answer(const Command&)>>;

inline int serve(const Handlers& handlers) {
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const Command command(line);
      const auto handler = handlers.find(command.name());
      if (handler == handlers.end()) throw std::runtime_error("no command '" + command.name() + "'");
      std::cout << handler->second(command).line() << std::endl;
    } catch (const std::exception& error) {
      std::string text = error.what();
      std::replace_if(text.begin(), text.end(), [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' '; }, '\'');
      std::cout << "{\"error\": \"" << text << "\"}" << std::endl;
      return 1;
    }
  }
  return 0;
}

}  // namespace bench
