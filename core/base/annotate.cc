#include "core/base/annotate.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace penstock {

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok() || context.empty()) return status;
  absl::Status annotated(
      status.code(), status.message().empty() ? std::string(context) : absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view type_url, const absl::Cord& payload) { annotated.SetPayload(type_url, payload); });
  return annotated;
}

}  // namespace penstock
