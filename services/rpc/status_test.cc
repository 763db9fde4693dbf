#include "services/rpc/status.h"

#include <gtest/gtest.h>

#include "core/base/annotate.h"

namespace penstock {
namespace {

TEST(RpcStatusTest, EveryCodeGoesThereAndBack) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "what is wrong");
    const grpc::Status over_the_wire = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(over_the_wire.error_code()), code);
    EXPECT_EQ(ToAbslStatus(over_the_wire), status);
  }
}

TEST(RpcStatusTest, AStrangeCodeIsUnknown) {
  EXPECT_EQ(ToAbslStatus(grpc::Status(static_cast<grpc::StatusCode>(20), "odd")), absl::UnknownError("odd"));
  EXPECT_EQ(ToAbslStatus(grpc::Status(static_cast<grpc::StatusCode>(-1), "odd")), absl::UnknownError("odd"));
}

TEST(RpcStatusTest, DetailsSurviveAnnotationAndTheWire) {
  const std::string details("\0binary\xff", 8);
  const absl::Status status =
      Annotate(WithRpcDetails(absl::InvalidArgumentError("model.heads"), details), "the job is wrong");
  const grpc::Status over_the_wire = ToGrpcStatus(status);
  EXPECT_EQ(over_the_wire.error_details(), details);
  EXPECT_EQ(RpcDetails(ToAbslStatus(over_the_wire)), details);
  EXPECT_EQ(RpcDetails(absl::AbortedError("none")), "");
  EXPECT_TRUE(WithRpcDetails(absl::OkStatus(), details).ok());
}

TEST(RpcStatusTest, AnErrorNamesMethodAndAddress) {
  const grpc::Status status(grpc::StatusCode::NOT_FOUND, "no job named 'x'");
  EXPECT_EQ(ToAbslStatus(status, "Coordinator.GetJob", "127.0.0.1:7000"),
            absl::NotFoundError("Coordinator.GetJob at 127.0.0.1:7000: no job named 'x'"));
  EXPECT_TRUE(ToAbslStatus(grpc::Status::OK, "Coordinator.GetJob", "127.0.0.1:7000").ok());
}

}  // namespace
}  // namespace penstock
