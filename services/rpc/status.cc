#include "services/rpc/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "core/base/annotate.h"

namespace penstock {
namespace {

// The two libraries number the codes alike; whatever else came over the wire is UNKNOWN.
absl::StatusCode ToAbslCode(grpc::StatusCode code) {
  const int number = static_cast<int>(code);
  if (number < 0 || number > static_cast<int>(absl::StatusCode::kUnauthenticated)) return absl::StatusCode::kUnknown;
  return static_cast<absl::StatusCode>(number);
}

static_assert(static_cast<int>(grpc::StatusCode::UNAUTHENTICATED) ==
              static_cast<int>(absl::StatusCode::kUnauthenticated));
static_assert(static_cast<int>(grpc::StatusCode::FAILED_PRECONDITION) ==
              static_cast<int>(absl::StatusCode::kFailedPrecondition));

}  // namespace

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return WithRpcDetails(absl::Status(ToAbslCode(status.error_code()), status.error_message()), status.error_details());
}

absl::Status ToAbslStatus(const grpc::Status& status, absl::string_view method, absl::string_view address) {
  return Annotate(ToAbslStatus(status), absl::StrCat(method, " at ", address));
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()), RpcDetails(status));
}

std::string RpcDetails(const absl::Status& status) {
  const auto payload = status.GetPayload(kRpcDetailsUrl);
  return payload.has_value() ? std::string(*payload) : std::string();
}

absl::Status WithRpcDetails(absl::Status status, const std::string& details) {
  if (!status.ok() && !details.empty()) status.SetPayload(kRpcDetailsUrl, absl::Cord(details));
  return status;
}

}  // namespace penstock
