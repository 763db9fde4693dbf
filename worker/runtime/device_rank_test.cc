// Whole ranks whose memory is a device's, on the emulator: the host that reads or writes weights, gradients or
// activations by itself dies of a SIGSEGV here. Losses are the CPU's but for rounding, and as on the CPU neither depth
// nor placement changes a bit.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/clock.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/timeline.h"
#include "worker/cuda/testing/emulator/memory.h"
#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/device_job.h"
#include "worker/runtime/rank_metrics.h"
#include "worker/runtime/rank_runner.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

const Machines kCpu;
// One for each rank, as no rank's waits may order another one's work.
const Machines kDevice = {
    .backend = []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateNextEmulatedDevice(); }};
// The same one for all.
const Machines kSharedDevice = {
    .backend = []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateEmulatedDevice(); }};

class DeviceRankTest : public testing::TestWithParam<DeviceJob> {};

TEST_P(DeviceRankTest, TrainsAsTheCpuDoes) {
  const Outcome cpu = Train(GetParam(), kCpu);
  const Outcome device = Train(GetParam(), kDevice);
  const double tolerance = GetParam().precision == v1::TrainingSpec::PRECISION_BF16 ? 1e-2 : 1e-5;
  ASSERT_EQ(device.records.size(), static_cast<size_t>(GetParam().job.steps));
  ASSERT_EQ(device.records.size(), cpu.records.size());
  for (size_t i = 0; i < cpu.records.size(); ++i) {
    EXPECT_NEAR(device.records[i].loss(), cpu.records[i].loss(), tolerance * cpu.records[i].loss());
    EXPECT_NEAR(device.records[i].gradient_norm(), cpu.records[i].gradient_norm(),
                10 * tolerance * cpu.records[i].gradient_norm());
    EXPECT_EQ(device.records[i].tokens(), cpu.records[i].tokens());
  }
  ASSERT_EQ(device.validations.size(), cpu.validations.size());
  for (size_t i = 0; i < cpu.validations.size(); ++i) {
    EXPECT_NEAR(device.validations[i], cpu.validations[i], tolerance * cpu.validations[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Jobs, DeviceRankTest,
    testing::Values(DeviceJob{.name = "OneStage", .job = {.steps = 2, .validate_every = 1}},
                    // More than there are buffers for their tokens.
                    DeviceJob{.name = "ManyMicroBatches", .job = {.steps = 1}, .micro_batches = 6},
                    DeviceJob{.name = "Zero2", .job = {.pipeline = 2, .data = 2, .zero = 2, .steps = 2}},
                    DeviceJob{.name = "Tensor", .job = {.pipeline = 2, .steps = 2, .tensor = 2}},
                    DeviceJob{.name = "Dropout", .job = {.pipeline = 2, .steps = 2}, .dropout = 0.1},
                    DeviceJob{.name = "Mirror",
                              .job = {.pipeline = 2, .data = 2, .steps = 2},
                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL},
                    DeviceJob{.name = "Published",
                              .job = {.data = 2, .steps = 2},
                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL,
                              .mirror = v1::ZeroSpec::MIRROR_OFF},
                    DeviceJob{.name = "Bf16",
                              .job = {.pipeline = 2, .steps = 2},
                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL,
                              .precision = v1::TrainingSpec::PRECISION_BF16},
                    DeviceJob{.name = "Offload",
                              .job = {.pipeline = 2, .data = 2, .zero = 2, .steps = 2},
                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL,
                              .offload = true},
                    DeviceJob{.name = "OffloadPublishedBf16",
                              .job = {.data = 2, .steps = 2},
                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL,
                              .mirror = v1::ZeroSpec::MIRROR_OFF,
                              .precision = v1::TrainingSpec::PRECISION_BF16,
                              .offload = true}),
    [](const auto& info) { return info.param.name; });

// What makes the other tests here worth something.
TEST(DeviceRanksTest, TheHostCantTouchADevicesMemory) {
  const auto memory = CreateEmulatedDevice()->Allocate(64).value();
  EXPECT_DEATH(memory->data()[0] = std::byte{1}, "");
}

TEST(DeviceRanksTest, AMemoryThatIsTooSmallIsExplained) {
  // Of 4 GiB each micro-batch would take more than half.
  const cuda::emulator::ScopedTakenMemory taken(/*device=*/0, cuda::emulator::kDeviceBytes - (size_t{4} << 30));
  v1::JobSpec spec = MakeTinyJob({.data = 2});
  spec.mutable_training()->set_micro_batch_size(1 << 16);
  spec.mutable_training()->set_global_batch_size(1 << 17);
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  TestEpoch::Options options{.spec = spec, .service = service, .log = &log};
  options.backend = kSharedDevice.backend;
  options.memory_wait = absl::Milliseconds(1);
  TestEpoch epoch(options);
  ASSERT_TRUE(log.WaitForCount(v1::MemberReport::kFailed, 1));
  epoch.StopAll();
  for (const v1::MemberReport& report : log.All()) {
    if (!report.has_failed()) continue;
    EXPECT_EQ(report.failed().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
    EXPECT_NE(report.failed().message().find("slot"), std::string::npos) << report.failed().message();
    EXPECT_NE(report.failed().message().find("training.micro_batch_size: 16384 would fit"), std::string::npos)
        << report.failed().message();
  }
}

// Another process has most of the device, one that was killed and whose memory the driver hasn't got back yet, say.
class SharedMemoryTest : public testing::Test {
 protected:
  static constexpr int kDevice = 7;
  SharedMemoryTest() {
    options_.service = FakeStateService::Create(options_.spec, 1);
    options_.backend = [this]() -> absl::StatusOr<std::unique_ptr<Backend>> {
      // What a backend takes for itself it has.
      auto backend = CreateEmulatedDevice(kDevice);
      taken_ = std::make_unique<cuda::emulator::ScopedTakenMemory>(kDevice, cuda::emulator::kDeviceBytes - kLeft);
      return backend;
    };
  }

  static constexpr size_t kLeft = size_t{2} << 20;
  std::unique_ptr<cuda::emulator::ScopedTakenMemory> taken_;
  ReportLog log_;
  TestEpoch::Options options_{.spec = MakeTinyJob({.steps = 1}), .log = &log_};
};

TEST_F(SharedMemoryTest, WhatOthersHaveIsWaitedFor) {
  TestEpoch epoch(options_);
  while (epoch.rank(0).cursor().instruction() != kMemoryActivity) absl::SleepFor(absl::Milliseconds(1));
  taken_.reset();
  EXPECT_TRUE(epoch.WaitFinished());
  epoch.StopAll();
  EXPECT_EQ(log_.Count(v1::MemberReport::kFailed), 0);
}

// Whoever has what.
TEST_F(SharedMemoryTest, WhatNoDeviceHasIsTheJobsFault) {
  options_.spec.mutable_training()->set_micro_batch_size(1 << 20);
  options_.spec.mutable_training()->set_global_batch_size(1 << 20);
  TestEpoch epoch(options_);
  ASSERT_TRUE(log_.WaitForCount(v1::MemberReport::kFailed, 1));
  epoch.StopAll();
  EXPECT_TRUE(log_.All()[0].failed().permanent()) << log_.All()[0].DebugString();
  EXPECT_EQ(log_.All()[0].failed().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
}

TEST_F(SharedMemoryTest, WhatTheyKeepIsNotTheJobsFault) {
  options_.memory_wait = absl::Milliseconds(1);
  TestEpoch epoch(options_);
  ASSERT_TRUE(log_.WaitForCount(v1::MemberReport::kFailed, 1));
  epoch.StopAll();
  const v1::RankFailed& failed = log_.All()[0].failed();
  EXPECT_EQ(failed.code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(failed.permanent());
}

// A thread that doesn't say which device it means takes memory of the first one, which may be another worker's.
TEST(DeviceRanksTest, NothingTouchesAnotherDevice) {
  constexpr int kDeviceOfTheRank = 5;
  const Machines machines = {
      .backend = []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateEmulatedDevice(kDeviceOfTheRank); }};
  (void)TakeTouchedDevices();
  const DeviceJob job = {.name = "", .job = {.steps = 2}, .placement = v1::ZeroSpec::PLACEMENT_LOCAL};
  EXPECT_EQ(Train(job, machines).records.size(), 2u);
  EXPECT_EQ(TakeTouchedDevices(), 1u << kDeviceOfTheRank);
}

// Waits of a step, from the difference of two jobs of unlike length: what begins and ends a job doesn't count.
int64_t WaitsOfAStep(v1::ZeroSpec::Placement placement) {
  DeviceJob test{.name = "", .job = {.steps = 2}, .placement = placement};
  const auto waits_of = [&](int steps) {
    test.job.steps = steps;
    const int64_t before = EmulatedHostWaits();
    EXPECT_EQ(Train(test, kDevice).records.size(), static_cast<size_t>(steps));
    return EmulatedHostWaits() - before;
  };
  const int64_t shorter = waits_of(2);
  const int64_t longer = waits_of(5);
  EXPECT_EQ((longer - shorter) % 3, 0);
  return (longer - shorter) / 3;
}

TEST(DeviceRanksTest, TheHostWaitsForTheLossAndForWhatLeavesTheDevice) {
  // A step has four micro-batches. With the mirror: the losses, and the sums of squares that the decision is made of.
  EXPECT_EQ(WaitsOfAStep(v1::ZeroSpec::PLACEMENT_LOCAL), 2);
  // Through the service: the losses, the gradients before the push, the weights after the pull.
  EXPECT_EQ(WaitsOfAStep(v1::ZeroSpec::PLACEMENT_SERVICE), 3);
}

// The host is ahead of the device, but what users see is the device's time.
TEST(DeviceRanksTest, TimesAreTheDevices) {
  const v1::JobSpec spec = MakeTinyJob({.steps = 2});
  ReportLog log;
  Timeline timeline;
  Metrics metrics("worker");
  WorkerMetrics worker_metrics(metrics);
  TestEpoch::Options options{.spec = spec, .service = FakeStateService::Create(spec, 1), .log = &log};
  options.timeline = &timeline;
  options.metrics = &worker_metrics;
  options.backend = kDevice.backend;
  const absl::Time begin = Clock::Real()->Monotonic();
  TestEpoch epoch(options);
  ASSERT_TRUE(epoch.WaitFinished());
  ASSERT_TRUE(epoch.WaitIdle());
  const absl::Time end = Clock::Real()->Monotonic();
  epoch.StopAll();

  // Four micro-batches forward and backward, the reduction and the update.
  const std::vector<TimelineEntry> entries = timeline.Entries();
  ASSERT_EQ(entries.size(), 2u * 10u);
  absl::Time before = begin;
  for (const TimelineEntry& entry : entries) {
    EXPECT_LE(before, entry.begin);
    EXPECT_LE(entry.begin, entry.end);
    before = entry.end;
  }
  EXPECT_LE(before, end);
  double seconds = 0;
  const auto of = [&](const char* kind) {
    return CounterIn(metrics, absl::StrCat("penstock_worker_activity_seconds_total{kind=\"", kind, "\"}"));
  };
  for (int i = 0; i < kActivities; ++i) seconds += of(ActivityName(static_cast<Activity>(i)));
  EXPECT_LE(seconds, absl::ToDoubleSeconds(end - begin));
  // The host gives the device a pass in no time.
  absl::Duration passes;
  for (const TimelineEntry& entry : entries) {
    if (IsCompute(entry.instruction.op)) passes += entry.end - entry.begin;
  }
  EXPECT_GT(of("compute"), 0.5 * absl::ToDoubleSeconds(passes));
  EXPECT_GT(of("compute"), of("data"));
}

TEST(DeviceRanksTest, NeitherDepthNorPlacementChangesABit) {
  const DeviceJob one{.name = "", .job = {.data = 2, .steps = 2}};
  DeviceJob local = one;
  local.placement = v1::ZeroSpec::PLACEMENT_LOCAL;
  local.job.pipeline = 2;
  const Outcome outcome = Train(one, kDevice);
  ExpectSameBits(outcome, Train(local, kDevice));
  local.offload = true;
  ExpectSameBits(outcome, Train(local, kDevice));
}

// ZeRO 2 is a class of bits of its own.
TEST(DeviceRanksTest, SumsOfGradientsOnTheHostChangeNoBit) {
  DeviceJob job{.name = "", .job = {.data = 2, .zero = 2, .steps = 2}};
  const Outcome outcome = Train(job, kDevice);
  job.placement = v1::ZeroSpec::PLACEMENT_LOCAL;
  job.job.pipeline = 2;
  job.offload = true;
  ExpectSameBits(outcome, Train(job, kDevice));
  job.job.pipeline = 1;
  job.mirror = v1::ZeroSpec::MIRROR_OFF;
  ExpectSameBits(outcome, Train(job, kDevice));
}

}  // namespace
}  // namespace penstock
