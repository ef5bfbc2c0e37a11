// The wall between C++ exceptions and the C ABI: every extern "C" body that can fail is `return guarded([&] { ... })`.
// The message is kept in fixed thread-local storage, so that reporting "out of memory" needs none.
#pragma once

#include <exception>
#include <new>

#include "error.hpp"
#include "vecdb.h"

namespace vecdb {

static_assert(static_cast<int>(Code::invalid_argument) == VECDB_INVALID_ARGUMENT, "codes and statuses agree");
static_assert(static_cast<int>(Code::not_found) == VECDB_NOT_FOUND, "codes and statuses agree");
static_assert(static_cast<int>(Code::corruption) == VECDB_CORRUPTION, "codes and statuses agree");
static_assert(static_cast<int>(Code::storage_error) == VECDB_STORAGE_ERROR, "codes and statuses agree");
static_assert(static_cast<int>(Code::out_of_memory) == VECDB_OUT_OF_MEMORY, "codes and statuses agree");
static_assert(static_cast<int>(Code::capacity) == VECDB_CAPACITY, "codes and statuses agree");
static_assert(static_cast<int>(Code::internal) == VECDB_INTERNAL, "codes and statuses agree");

// Set what vecdb_last_error() of this thread returns; a message beyond 2 KiB is cut.
void set_last_error(const char* message) noexcept;

template <class Body>
vecdb_status guarded(Body&& body) noexcept {
  try {
    body();
    return VECDB_OK;
  } catch (const Error& error) {
    set_last_error(error.what());
    return static_cast<vecdb_status>(error.code());
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory: the system refused an allocation; free memory or make the request smaller");
    return VECDB_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    set_last_error(error.what());
    return VECDB_INTERNAL;
  } catch (...) {
    set_last_error("an exception of unknown type reached the C interface");
    return VECDB_INTERNAL;
  }
}

}  // namespace vecdb
