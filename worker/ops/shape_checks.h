// Checks that every backend makes before it creates an operation.
#ifndef PENSTOCK_WORKER_OPS_SHAPE_CHECKS_H_
#define PENSTOCK_WORKER_OPS_SHAPE_CHECKS_H_

#include <cstdint>
#include <initializer_list>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace penstock {

struct Dimension {
  const char* name;
  int64_t value;
};

// INVALID_ARGUMENT "linear: in is 0; it must be positive".
inline absl::Status CheckPositive(const char* operation, std::initializer_list<Dimension> dimensions) {
  for (const Dimension& dimension : dimensions) {
    if (dimension.value <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(operation, ": ", dimension.name, " is ", dimension.value, "; it must be positive"));
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_SHAPE_CHECKS_H_
