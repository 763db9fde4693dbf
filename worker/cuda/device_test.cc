#include "worker/cuda/device.h"

#include <cstdio>

#include "gtest/gtest.h"
#include "worker/cuda/dynamic_library.h"

namespace penstock::cuda {
namespace {

TEST(DeviceTest, SaysWhatIsThereOrWhyNothingIs) {
  const absl::StatusOr<DeviceFacts> facts = QueryDevice(0);
  if (facts.ok()) {
    std::printf("%s\n", Describe(*facts).c_str());
    EXPECT_GT(facts->memory_bytes, 0);
    EXPECT_GE(facts->compute_major, 8);
    EXPECT_EQ(facts->pci_bus_id.size(), std::string("0000:3b:00.0").size()) << facts->pci_bus_id;
    EXPECT_EQ(facts->uuid.size(), std::string("GPU-8b0e6c3a-8d6b-c8a3-cc9b-6f4a2a1d2c55").size()) << facts->uuid;
  } else {
    EXPECT_EQ(facts.status().code(), absl::StatusCode::kFailedPrecondition) << facts.status();
  }
  EXPECT_EQ(QueryDevice(1000).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(QueryDevice(-1).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(DeviceTest, AdvisesOnDrivers) {
  const std::string old = AdviceOn(cudaErrorInsufficientDriver, 12040, 13000, nullptr);
  EXPECT_NE(old.find("for CUDA 12.4, this build for 13.0"), std::string::npos) << old;
  EXPECT_NE(old.find("a build with CUDA 12"), std::string::npos) << old;
  EXPECT_NE(AdviceOn(cudaErrorInsufficientDriver, 0, 13000, nullptr).find("no driver"), std::string::npos);
  EXPECT_NE(AdviceOn(cudaErrorNoDevice, 13000, 13000, "7").find("CUDA_VISIBLE_DEVICES is '7'"), std::string::npos);
  EXPECT_EQ(AdviceOn(cudaErrorNoDevice, 13000, 13000, nullptr), "");
}

TEST(DeviceTest, DescribesADevice) {
  EXPECT_EQ(Describe({.name = "Test",
                      .pci_bus_id = "0000:3b:00.0",
                      .uuid = "GPU-1",
                      .compute_major = 9,
                      .compute_minor = 0,
                      .multiprocessors = 1,
                      .shared_bytes_per_block_max = 1,
                      .memory_bytes = int64_t{3} << 29,
                      .driver_version = 13010,
                      .runtime_version = 12080}),
            "Test, sm_90, 1.5 GiB, CUDA 12.8 (driver 13.1)");
}

TEST(DynamicLibraryTest, NamesWhatIsMissing) {
  const auto none = DynamicLibrary::Open({"libpenstock_none.so.7", "libpenstock_none.so"});
  ASSERT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(none.status().message().find("libpenstock_none.so.7 or libpenstock_none.so"), absl::string_view::npos);
  const auto libc = DynamicLibrary::Open({"libc.so.6"});
  ASSERT_TRUE(libc.ok()) << libc.status();
  int (*absolute)(int) = nullptr;
  ASSERT_TRUE(libc->Bind("abs", &absolute).ok());
  EXPECT_EQ(absolute(-3), 3);
  EXPECT_EQ(libc->Bind("penstock_none", &absolute).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace penstock::cuda
