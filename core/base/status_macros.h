// Macros that pass a Status on, and the check for bugs.
#ifndef PENSTOCK_CORE_BASE_STATUS_MACROS_H_
#define PENSTOCK_CORE_BASE_STATUS_MACROS_H_

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define PENSTOCK_CONCAT_INNER_(a, b) a##b
#define PENSTOCK_CONCAT_(a, b) PENSTOCK_CONCAT_INNER_(a, b)

// Returns from the function when the expression's status isn't OK.
#define PENSTOCK_RETURN_IF_ERROR(expression)                                      \
  do {                                                                            \
    if (::absl::Status penstock_status_ = (expression); !penstock_status_.ok()) { \
      return penstock_status_;                                                    \
    }                                                                             \
  } while (false)

// PENSTOCK_ASSIGN_OR_RETURN(auto x, MakeX()): x is the value, or the function returns the status.
#define PENSTOCK_ASSIGN_OR_RETURN(target, expression) \
  PENSTOCK_ASSIGN_OR_RETURN_INNER_(PENSTOCK_CONCAT_(penstock_status_or_, __LINE__), target, expression)
#define PENSTOCK_ASSIGN_OR_RETURN_INNER_(status_or, target, expression) \
  auto status_or = (expression);                                        \
  if (!status_or.ok()) return std::move(status_or).status();            \
  target = *std::move(status_or)

// For bugs only: an invariant that no input can break. Prints where, and aborts.
#define PENSTOCK_CHECK(condition)                                                        \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)

#endif  // PENSTOCK_CORE_BASE_STATUS_MACROS_H_
