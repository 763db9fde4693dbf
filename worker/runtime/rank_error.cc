#include "worker/runtime/rank_error.h"

#include "absl/strings/cord.h"

namespace penstock {
namespace {

constexpr char kPermanentPayload[] = "penstock.v1/permanent";
constexpr char kFencedPayload[] = "penstock.v1/fenced";

}  // namespace

absl::Status MarkPermanent(absl::Status status) {
  if (!status.ok()) status.SetPayload(kPermanentPayload, absl::Cord("1"));
  return status;
}

bool IsPermanent(const absl::Status& status) { return status.GetPayload(kPermanentPayload).has_value(); }

absl::Status FromService(absl::Status status) {
  if (absl::IsFailedPrecondition(status)) status.SetPayload(kFencedPayload, absl::Cord("1"));
  return status;
}

bool IsFenced(const absl::Status& status) { return status.GetPayload(kFencedPayload).has_value(); }

}  // namespace penstock
