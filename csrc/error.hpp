// The one exception of the core: a code that says what the caller can do, and a message that says what was seen, what
// was expected and the remedy.
#pragma once

#include <stdexcept>
#include <string>

namespace vecdb {

// Values as in vecdb_status; guarded.hpp checks that they agree.
enum class Code : int {
  invalid_argument = 1,
  not_found = 2,
  corruption = 3,
  storage_error = 4,
  out_of_memory = 5,
  capacity = 6,
  internal = 7,
};

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}

  Code code() const noexcept { return code_; }

 private:
  Code code_;
};

}  // namespace vecdb
