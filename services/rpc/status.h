// grpc::Status to absl::Status and back. Codes and messages are kept; gRPC's binary error details travel as the payload
// kRpcDetailsUrl of the absl::Status, both ways. Thread-safe.
#ifndef PENSTOCK_SERVICES_RPC_STATUS_H_
#define PENSTOCK_SERVICES_RPC_STATUS_H_

#include <string>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace penstock {

inline constexpr char kRpcDetailsUrl[] = "type.penstock/rpc-details";

absl::Status ToAbslStatus(const grpc::Status& status);
// For a call's caller: an error says who was asked for what. "Coordinator.GetJob at 127.0.0.1:7000: no job named 'x'".
absl::Status ToAbslStatus(const grpc::Status& status, absl::string_view method, absl::string_view address);

grpc::Status ToGrpcStatus(const absl::Status& status);

// The binary details of an error; empty where there are none. Kept by Annotate().
std::string RpcDetails(const absl::Status& status);
// An error with details for ToGrpcStatus, a serialised message usually.
absl::Status WithRpcDetails(absl::Status status, const std::string& details);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_STATUS_H_
