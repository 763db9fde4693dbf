// Whole ranks whose memory is a device's, on the emulator: the host that reads or writes weights, gradients or
// activations by itself dies of a SIGSEGV here. Losses are the CPU's but for rounding, and as on the CPU neither depth
// nor placement changes a bit.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/plan/job_rules.h"
#include "services/base/clock.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/timeline.h"
#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/rank_metrics.h"
#include "worker/runtime/rank_runner.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

struct Case {
  std::string name;
  TinyJob job;
  v1::ZeroSpec::Placement placement = v1::ZeroSpec::PLACEMENT_SERVICE;
  v1::ZeroSpec::Mirror mirror = v1::ZeroSpec::MIRROR_UNSPECIFIED;
  v1::TrainingSpec::Precision precision = v1::TrainingSpec::PRECISION_FP32;
  // Times as many of them.
  uint32_t micro_batches = 1;
};

struct Outcome {
  std::vector<float> weights;
  std::vector<v1::StepRecord> records;
  std::vector<double> validations;
};

Outcome Train(const Case& test, bool on_device) {
  v1::JobSpec spec = MakeTinyJob(test.job);
  spec.mutable_parallel()->mutable_zero()->set_placement(test.placement);
  spec.mutable_parallel()->mutable_zero()->set_mirror(test.mirror);
  spec.mutable_training()->set_precision(test.precision);
  spec.mutable_training()->set_global_batch_size(spec.training().global_batch_size() * test.micro_batches);
  FillDefaults(&spec);
  for (const v1::JobViolation& violation : CheckJob(spec)) {
    ADD_FAILURE() << violation.field() << ": " << violation.message();
  }
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  TestEpoch::Options options{.spec = spec, .service = service, .log = &log};
  if (on_device) {
    options.backend = []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateNextEmulatedDevice(); };
  }
  TestEpoch epoch(options);
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  Outcome outcome;
  outcome.weights = service->weights();
  for (const v1::MemberReport& report : log.All()) {
    EXPECT_FALSE(report.has_failed()) << report.DebugString();
    if (report.has_step()) outcome.records.push_back(report.step());
    if (report.has_validation()) outcome.validations.push_back(report.validation().loss());
  }
  EXPECT_EQ(service->clients_alive(), 0);
  return outcome;
}

void ExpectSameBits(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.records.size(), b.records.size());
  for (size_t i = 0; i < a.records.size(); ++i) EXPECT_EQ(a.records[i].loss(), b.records[i].loss()) << i;
  ASSERT_EQ(a.weights.size(), b.weights.size());
  EXPECT_EQ(std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)), 0);
}

class DeviceRankTest : public testing::TestWithParam<Case> {};

TEST_P(DeviceRankTest, TrainsAsTheCpuDoes) {
  const Outcome cpu = Train(GetParam(), /*on_device=*/false);
  const Outcome device = Train(GetParam(), /*on_device=*/true);
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

INSTANTIATE_TEST_SUITE_P(Jobs, DeviceRankTest,
                         testing::Values(Case{.name = "OneStage", .job = {.steps = 2, .validate_every = 1}},
                                         // More than there are buffers for their tokens.
                                         Case{.name = "ManyMicroBatches", .job = {.steps = 1}, .micro_batches = 6},
                                         Case{.name = "Zero2",
                                              .job = {.pipeline = 2, .data = 2, .zero = 2, .steps = 2}},
                                         Case{.name = "Tensor", .job = {.pipeline = 2, .steps = 2, .tensor = 2}},
                                         Case{.name = "Mirror",
                                              .job = {.pipeline = 2, .data = 2, .steps = 2},
                                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL},
                                         Case{.name = "Published",
                                              .job = {.data = 2, .steps = 2},
                                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL,
                                              .mirror = v1::ZeroSpec::MIRROR_OFF},
                                         Case{.name = "Bf16",
                                              .job = {.pipeline = 2, .steps = 2},
                                              .placement = v1::ZeroSpec::PLACEMENT_LOCAL,
                                              .precision = v1::TrainingSpec::PRECISION_BF16}),
                         [](const auto& info) { return info.param.name; });

// What makes the other tests here worth something.
TEST(DeviceRanksTest, TheHostCantTouchADevicesMemory) {
  const auto memory = CreateEmulatedDevice()->Allocate(64).value();
  EXPECT_DEATH(memory->data()[0] = std::byte{1}, "");
}

TEST(DeviceRanksTest, AMemoryThatIsTooSmallIsExplained) {
  // Of the emulator's 4 GiB each micro-batch would take more than half.
  v1::JobSpec spec = MakeTinyJob({.data = 2});
  spec.mutable_training()->set_micro_batch_size(1 << 16);
  spec.mutable_training()->set_global_batch_size(1 << 17);
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  TestEpoch::Options options{.spec = spec, .service = service, .log = &log};
  options.backend = []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateEmulatedDevice(); };
  TestEpoch epoch(options);
  ASSERT_TRUE(log.WaitForCount(v1::MemberReport::kFailed, 1));
  epoch.StopAll();
  for (const v1::MemberReport& report : log.All()) {
    if (!report.has_failed()) continue;
    EXPECT_EQ(report.failed().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
    EXPECT_TRUE(report.failed().permanent());
    EXPECT_NE(report.failed().message().find("slot"), std::string::npos) << report.failed().message();
    EXPECT_NE(report.failed().message().find("training.micro_batch_size: 16384 would fit"), std::string::npos)
        << report.failed().message();
  }
}

// Waits of a step, from the difference of two jobs of unlike length: what begins and ends a job doesn't count.
int64_t WaitsOfAStep(v1::ZeroSpec::Placement placement) {
  Case test{.name = "", .job = {.steps = 2}, .placement = placement};
  const auto waits_of = [&](int steps) {
    test.job.steps = steps;
    const int64_t before = EmulatedHostWaits();
    EXPECT_EQ(Train(test, /*on_device=*/true).records.size(), static_cast<size_t>(steps));
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
  options.backend = []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateEmulatedDevice(); };
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
  const Case one{.name = "", .job = {.data = 2, .steps = 2}};
  Case local = one;
  local.placement = v1::ZeroSpec::PLACEMENT_LOCAL;
  local.job.pipeline = 2;
  ExpectSameBits(Train(one, true), Train(local, true));
}

}  // namespace
}  // namespace penstock
