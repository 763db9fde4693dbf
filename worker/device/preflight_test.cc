#include "worker/device/preflight.h"

#include "gtest/gtest.h"
#include "services/membership/device_info.h"
#include "worker/device/compute_device.h"
#include "worker/device/device_links.h"
#include "worker/device/network_interface.h"

namespace penstock {
namespace {

TEST(ComputeDeviceTest, ReadsNames) {
  EXPECT_EQ(ParseComputeDevice("cpu", 2)->name(), "cpu");
  EXPECT_EQ(ParseComputeDevice("cuda:3", 2)->cuda, 3);
  for (const char* bad : {"", "cuda", "cuda:", "cuda:-1", "cuda:1x", "cuda:01", "gpu", "CPU"}) {
    const auto device = ParseComputeDevice(bad, 1);
    EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(ComputeDeviceTest, SaysWhyThereIsNoDevice) {
  // No machine has so many.
  const auto backend = CreateBackend({.cuda = 4711});
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kFailedPrecondition) << backend.status();
}

TEST(DeviceLinksTest, NcclNeedsADeviceForEachRankAndOneVersion) {
  v1::Assignment assignment;
  EXPECT_FALSE(LinkedByNccl(assignment));
  for (const char* device : {"cuda:0", "cuda:1"}) {
    v1::Peer& peer = *assignment.add_peers();
    peer.set_device(device);
    peer.set_nccl("2.28.9");
    peer.set_host_id("a");
  }
  EXPECT_TRUE(LinkedByNccl(assignment));
  assignment.mutable_peers(1)->set_nccl("2.27.5");
  EXPECT_FALSE(LinkedByNccl(assignment));
  assignment.mutable_peers(1)->set_nccl("2.28.9");
  assignment.mutable_peers(1)->set_device("cuda:0");
  EXPECT_FALSE(LinkedByNccl(assignment));
  assignment.mutable_peers(1)->set_host_id("b");
  EXPECT_TRUE(LinkedByNccl(assignment));
  // Both workers are shown one card, which they call cuda:0: what counts is which one it is.
  assignment.mutable_peers(1)->set_host_id(assignment.peers(0).host_id());
  assignment.mutable_peers(0)->set_pci_bus_id("0000:18:00.0");
  assignment.mutable_peers(1)->set_pci_bus_id("0000:3b:00.0");
  EXPECT_TRUE(LinkedByNccl(assignment));
  assignment.mutable_peers(1)->set_device("cuda:1");
  assignment.mutable_peers(1)->set_pci_bus_id("0000:18:00.0");
  EXPECT_FALSE(LinkedByNccl(assignment));
  assignment.mutable_peers(1)->set_pci_bus_id("0000:3b:00.0");
  assignment.mutable_peers(1)->set_device("cpu");
  EXPECT_FALSE(LinkedByNccl(assignment));
}

TEST(PreflightTest, MeasuresTheCpu) {
  const auto info =
      RunPreflight({.device = {.cuda = -1, .threads = 1}, .host = "127.0.0.1", .budget = absl::Milliseconds(100)});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_FALSE(info->name().empty());
  EXPECT_GT(info->memory_bytes(), uint64_t{1} << 28);
  EXPECT_GT(info->fp32_flops_per_second(), 1e8);
  EXPECT_GT(info->bf16_flops_per_second(), 1e7);
  EXPECT_GT(info->memory_bytes_per_second(), 1e8);
  EXPECT_EQ(info->network_interface(), "lo");
  // Device, memory, two rates of products, the memory's, the network; nothing of CUDA.
  EXPECT_EQ(DescribeDevice(*info).size(), 6u);
  EXPECT_EQ(DeviceJson(*info)["memory_bytes"], info->memory_bytes());
}

TEST(PreflightTest, FactsAloneTakeNoTime) {
  const auto info = RunPreflight({.device = {}, .host = "", .budget = absl::ZeroDuration()});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->fp32_flops_per_second(), 0);
  EXPECT_EQ(DescribeDevice(*info).size(), 2u);
}

TEST(PreflightTest, KnowsNoInterfaceOfAnotherMachine) { EXPECT_EQ(NetworkInterfaceOf("192.0.2.1"), ""); }

}  // namespace
}  // namespace penstock
