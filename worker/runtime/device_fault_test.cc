// A device that fails in the middle of a job, as CUDA lets it fail: every later call gives the error, whoever calls and
// whatever for. The rank says whose fault it is, that trying again can help, and that its process is of no use any
// more.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/device_job.h"
#include "worker/runtime/emulated_links.h"
#include "worker/runtime/rank_runner.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

// What workers are told of their devices. Thread-safe.
class LostDevices {
 public:
  void Add(const absl::Status& why) {
    absl::MutexLock lock(&mutex_);
    lost_.push_back(why);
  }
  std::vector<absl::Status> All() const {
    absl::MutexLock lock(&mutex_);
    return lost_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<absl::Status> lost_;
};

struct FaultCase {
  std::string name;
  DeviceJob job;
  bool nccl = false;
};

void PrintTo(const FaultCase& fault, std::ostream* out) { *out << fault.name; }

class DeviceFaultTest : public testing::TestWithParam<FaultCase> {};

TEST_P(DeviceFaultTest, IsReportedInTheDevicesWords) {
  const v1::JobSpec spec = SpecOf(GetParam().job);
  ReportLog log;
  LostDevices lost;
  // Every rank has a device of its own; the last one to ask has it fail.
  std::atomic<int> device = -1;
  TestEpoch::Options options{.spec = spec, .service = FakeStateService::Create(spec, 2), .log = &log};
  options.backend = [&device]() -> absl::StatusOr<std::unique_ptr<Backend>> {
    auto backend = CreateNextEmulatedDevice();
    device = EmulatedDeviceOfThread();
    return backend;
  };
  if (GetParam().nccl) options.connect_devices = EmulatedNcclLinks();
  options.device_lost = [&lost](const absl::Status& why) { lost.Add(why); };
  TestEpoch epoch(options);
  ASSERT_TRUE(log.WaitForCount(v1::MemberReport::kStep, 2));
  FailEmulatedDevice(device);
  const auto words_of = [](const v1::MemberReport& report) {
    return report.has_failed() && absl::StrContains(report.failed().message(), "an illegal memory access");
  };
  EXPECT_TRUE(log.WaitFor([&](const auto& reports) { return std::any_of(reports.begin(), reports.end(), words_of); }));
  epoch.StopAll();
  int named = 0;
  for (const v1::MemberReport& report : log.All()) {
    EXPECT_FALSE(report.has_failed() && report.failed().permanent()) << report.DebugString();
    if (!words_of(report)) continue;
    ++named;
    EXPECT_TRUE(absl::StrContains(report.failed().message(), absl::StrCat("cuda:", device.load())))
        << report.DebugString();
    EXPECT_TRUE(absl::StrContains(report.failed().message(), "process ends")) << report.DebugString();
    EXPECT_TRUE(report.failed().suspect_worker_id().empty()) << report.DebugString();
  }
  EXPECT_EQ(named, 1);
  const std::vector<absl::Status> told = lost.All();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(absl::StrContains(told[0].message(), "an illegal memory access")) << told[0];
}

constexpr auto kLocal = v1::ZeroSpec::PLACEMENT_LOCAL;

INSTANTIATE_TEST_SUITE_P(
    Jobs, DeviceFaultTest,
    testing::Values(FaultCase{.name = "Alone", .job = {.name = "", .job = {.steps = 1000}, .placement = kLocal}},
                    FaultCase{.name = "Service", .job = {.name = "", .job = {.pipeline = 2, .steps = 1000}}},
                    FaultCase{.name = "Nccl",
                              .job = {.name = "", .job = {.pipeline = 2, .steps = 1000}, .placement = kLocal},
                              .nccl = true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace penstock
