// Whole ranks whose tensors go from device to device, over an emulated NCCL: every rank is a thread with a device of
// its own, its streams are late and out of step, and the hosts run ahead. The bits are those of links through the
// hosts, whatever waits for what; the host waits no more often than a rank alone; and a rank whose device waits for a
// peer that is gone ends, and lets go of its memory.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/device_job.h"
#include "worker/runtime/emulated_links.h"
#include "worker/runtime/rank_runner.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

absl::StatusOr<std::unique_ptr<Backend>> NextDevice() { return CreateNextEmulatedDevice(); }

Machines OverTheHosts() { return {.backend = NextDevice}; }

// Of one epoch.
Machines OverNccl(absl::Duration wait_timeout = absl::Seconds(60)) {
  return {.backend = NextDevice, .connect_devices = EmulatedNcclLinks(wait_timeout)};
}

class DeviceLinksTest : public testing::TestWithParam<DeviceJob> {};

TEST_P(DeviceLinksTest, TheBitsAreThoseOfLinksThroughTheHosts) {
  const Outcome hosts = Train(GetParam(), OverTheHosts());
  ASSERT_EQ(hosts.records.size(), static_cast<size_t>(GetParam().job.steps));
  ExpectSameBits(hosts, Train(GetParam(), OverNccl()));
}

constexpr auto kLocal = v1::ZeroSpec::PLACEMENT_LOCAL;

INSTANTIATE_TEST_SUITE_P(
    Jobs, DeviceLinksTest,
    testing::Values(
        DeviceJob{.name = "Pipeline", .job = {.pipeline = 2, .steps = 2, .validate_every = 1}},
        DeviceJob{.name = "Deep",
                  .job = {.pipeline = 4, .schedule = v1::ParallelSpec::SCHEDULE_GPIPE, .steps = 2},
                  .placement = kLocal,
                  .micro_batches = 2},
        DeviceJob{.name = "Zero0", .job = {.data = 3, .zero = 0, .steps = 2}},
        DeviceJob{.name = "Zero2", .job = {.pipeline = 2, .data = 2, .zero = 2, .steps = 2}},
        DeviceJob{
            .name = "Mirror", .job = {.pipeline = 2, .data = 2, .steps = 2, .validate_every = 2}, .placement = kLocal},
        DeviceJob{.name = "Offload",
                  .job = {.pipeline = 2, .data = 2, .zero = 2, .steps = 2},
                  .placement = kLocal,
                  .precision = v1::TrainingSpec::PRECISION_BF16,
                  .offload = true},
        DeviceJob{.name = "MirrorTensor", .job = {.data = 2, .zero = 2, .steps = 2, .tensor = 2}, .placement = kLocal},
        DeviceJob{.name = "Bf16Published",
                  .job = {.pipeline = 2, .steps = 2, .tensor = 2},
                  .placement = kLocal,
                  .mirror = v1::ZeroSpec::MIRROR_OFF,
                  .precision = v1::TrainingSpec::PRECISION_BF16}),
    [](const auto& info) { return info.param.name; });

// Of all ranks, in a step: what begins and ends a job doesn't count.
int64_t WaitsOfAStep(DeviceJob job) {
  const auto waits_of = [&](int steps) {
    job.job.steps = steps;
    const int64_t before = EmulatedHostWaits();
    EXPECT_EQ(Train(job, OverNccl()).records.size(), static_cast<size_t>(steps));
    return EmulatedHostWaits() - before;
  };
  const int64_t shorter = waits_of(1);
  const int64_t longer = waits_of(2);
  return longer - shorter;
}

TEST(DeviceLinksWaitsTest, MessagesAddNone) {
  // The losses at each data rank of the last stage, and the sums of squares where a piece of the norm is at home: the
  // tiny model is one.
  EXPECT_EQ(WaitsOfAStep({.name = "", .job = {.pipeline = 2, .data = 2}, .placement = kLocal}), 2 + 1);
  // Through the service: the losses, and at each of four owners the gradients before the push and the weights after the
  // pull.
  EXPECT_EQ(WaitsOfAStep({.name = "", .job = {.pipeline = 2, .data = 2}}), 2 + 4 * 2);
}

// One epoch of a job whose ranks are stopped one after the other, the first one while the others go on.
class DeviceLinksLossTest : public testing::Test {
 protected:
  DeviceLinksLossTest() {
    service_ = FakeStateService::Create(SpecOf(job_), 2);
    options_ = {.spec = SpecOf(job_), .service = service_, .log = &log_};
    SetMachines(OverNccl());
  }
  void SetMachines(const Machines& machines) {
    options_.backend = machines.backend;
    options_.connect_devices = machines.connect_devices;
  }
  bool WaitForSteps(int steps) { return log_.WaitForCount(v1::MemberReport::kStep, steps); }

  DeviceJob job_ = {.name = "", .job = {.pipeline = 2, .data = 2, .steps = 40}};
  std::shared_ptr<FakeStateService> service_;
  ReportLog log_;
  TestEpoch::Options options_;
};

TEST_F(DeviceLinksLossTest, AnAbortInTheMiddleLetsGo) {
  TestEpoch epoch(options_);
  ASSERT_TRUE(WaitForSteps(2));
  epoch.StopAll();  // which expects that they end
  ExpectNoPermanentFailure(log_);
}

TEST_F(DeviceLinksLossTest, APeerThatDiesIsSurvived) {
  job_.job.steps = 5;
  const Outcome undisturbed = Train(job_, OverNccl());
  options_.spec = SpecOf(job_);
  {
    TestEpoch epoch(options_);
    ASSERT_TRUE(WaitForSteps(2));
    epoch.rank(3).Stop("killed");
    ASSERT_TRUE(epoch.rank(3).WaitEnded(absl::Seconds(10)));
    // Devices wait for what rank 3 will never send.
    epoch.StopAll();
  }
  ExpectNoPermanentFailure(log_);
  log_.Clear();
  options_.epoch = 2;
  service_->Seal(2);
  options_.start_step = service_->committed_step();
  ASSERT_LT(options_.start_step, 5u);
  SetMachines(OverNccl());
  TestEpoch epoch(options_);
  ASSERT_TRUE(epoch.WaitFinished());
  ASSERT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  EXPECT_EQ(service_->weights(), undisturbed.weights);
}

}  // namespace
}  // namespace penstock
