// Adds to a status where it happened, on its way up.
//
//   if (!status.ok()) return Annotate(status, absl::StrCat("stage ", stage));   // "stage 2: no such tensor"
//
// Keeps the code and the payloads; an OK status stays as it is. Thread-safe.
#ifndef PENSTOCK_CORE_BASE_ANNOTATE_H_
#define PENSTOCK_CORE_BASE_ANNOTATE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace penstock {

absl::Status Annotate(const absl::Status& status, absl::string_view context);

}  // namespace penstock

#endif  // PENSTOCK_CORE_BASE_ANNOTATE_H_
