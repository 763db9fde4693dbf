#include "worker/comm/nccl/nccl_environment.h"

#include <map>
#include <string>

#include "gtest/gtest.h"

namespace penstock {
namespace {

absl::Status Check(const std::map<std::string, std::string>& variables, int streams = 10) {
  return CheckNcclEnvironment(streams, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(NcclEnvironmentTest, NothingIsSetAsARule) {
  EXPECT_TRUE(Check({}).ok());
  EXPECT_TRUE(Check({{"CUDA_DEVICE_MAX_CONNECTIONS", "32"}, {"NCCL_DEBUG", "INFO"}}).ok());
  EXPECT_TRUE(Check({{"CUDA_LAUNCH_BLOCKING", "0"}, {"NCCL_COMM_BLOCKING", "0"}}).ok());
}

TEST(NcclEnvironmentTest, WhatWouldGetStuckIsNamed) {
  for (const char* name : {"CUDA_LAUNCH_BLOCKING", "NCCL_LAUNCH_ORDER_IMPLICIT", "NCCL_COMM_BLOCKING"}) {
    const absl::Status status = Check({{name, "1"}});
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_EQ(status.message().find(name), 0u) << status;
    EXPECT_NE(status.message().find("--device_links=host"), absl::string_view::npos) << status;
  }
}

// As Megatron's users have it in their shells.
TEST(NcclEnvironmentTest, EveryStreamHasAQueue) {
  EXPECT_TRUE(absl::IsFailedPrecondition(Check({{"CUDA_DEVICE_MAX_CONNECTIONS", "1"}})));
  EXPECT_TRUE(absl::IsFailedPrecondition(Check({{"CUDA_DEVICE_MAX_CONNECTIONS", "9"}}, 10)));
  EXPECT_TRUE(Check({{"CUDA_DEVICE_MAX_CONNECTIONS", "10"}}, 10).ok());
  // More than a device has.
  EXPECT_TRUE(Check({{"CUDA_DEVICE_MAX_CONNECTIONS", "32"}}, 100).ok());
}

}  // namespace
}  // namespace penstock
