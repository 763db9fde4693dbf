#include "core/schedule/simulator.h"

#include <limits>
#include <vector>

#include "core/schedule/schedule.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

SimulationInput Equal(int stages, double forward, double backward) {
  SimulationInput input;
  input.stages.assign(static_cast<size_t>(stages), {.forward_seconds = forward, .backward_seconds = backward});
  return input;
}

// GPipe and 1F1B with equal stages: m ideal slots, and p - 1 more to fill and drain the pipeline (Narayanan et al.
// 2021).
TEST(SimulatorTest, BubbleOfEqualStages) {
  for (const ScheduleKind kind : {ScheduleKind::kGpipe, ScheduleKind::k1F1B}) {
    for (int stages = 1; stages <= 8; ++stages) {
      for (int micro_batches = 1; micro_batches <= 16; ++micro_batches) {
        const Schedule schedule = *BuildSchedule(kind, stages, micro_batches);
        const auto result = Simulate(schedule, Equal(stages, 0.3, 0.7));
        ASSERT_TRUE(result.ok()) << result.status();
        const double p = stages;
        const double m = micro_batches;
        EXPECT_NEAR(result->makespan_seconds, (m + p - 1) * 1.0, 1e-9);
        EXPECT_NEAR(result->bubble_ratio, (p - 1) / (m + p - 1), 1e-9) << ScheduleKindName(kind) << p << "x" << m;
        const double ideal = m * 1.0;
        EXPECT_NEAR(result->makespan_seconds / ideal - 1, (p - 1) / m, 1e-9);
      }
    }
  }
}

TEST(SimulatorTest, UpdateCountsOnceForEachStep) {
  SimulationInput input = Equal(2, 1, 2);
  for (StageCosts& costs : input.stages) {
    costs.reduce_seconds = 0.5;
    costs.optimizer_seconds = 0.25;
  }
  const auto result = Simulate(*BuildSchedule(ScheduleKind::kGpipe, 2, 3), input);
  ASSERT_TRUE(result.ok());
  EXPECT_NEAR(result->makespan_seconds, 4 * 3.0 + 0.75, 1e-12);
  EXPECT_NEAR(result->busy_seconds[1], 3 * 3.0 + 0.75, 1e-12);
}

// Two stages, one micro-batch, written out: F0, link, F1, B1, link, B0.
TEST(SimulatorTest, LinksTakeLatencyAndBytes) {
  SimulationInput input = Equal(2, 1, 2);
  input.stages[0].boundary_bytes = 100;
  input.link_latency_seconds = 0.5;
  input.link_bytes_per_second = 50;
  const auto result = Simulate(*BuildSchedule(ScheduleKind::k1F1B, 2, 1), input);
  ASSERT_TRUE(result.ok());
  EXPECT_DOUBLE_EQ(result->makespan_seconds, 1 + 2.5 + 1 + 2 + 2.5 + 2);
  // Stage 1 asks at once and gets its activation at 3.5.
  EXPECT_DOUBLE_EQ(result->times[1][0].begin_seconds, 0);
  EXPECT_DOUBLE_EQ(result->times[1][0].end_seconds, 3.5);
}

TEST(SimulatorTest, MessagesOfOneDirectionFollowOneAnother) {
  SimulationInput input = Equal(2, 1, 0);
  input.stages[0].boundary_bytes = 10;
  input.link_bytes_per_second = 1;
  const auto result = Simulate(*BuildSchedule(ScheduleKind::kForwardOnly, 2, 3), input);
  ASSERT_TRUE(result.ok());
  // The link is busy from 1 to 31; the last forward pass follows.
  EXPECT_DOUBLE_EQ(result->makespan_seconds, 32);
}

TEST(SimulatorTest, StagesOfOneHostShareItsCores) {
  const Schedule schedule = *BuildSchedule(ScheduleKind::kForwardOnly, 2, 10);
  SimulationInput input = Equal(2, 1, 0);
  for (StageCosts& costs : input.stages) costs.loads[0].cores = 2;
  input.host_cores = {4};
  EXPECT_NEAR(Simulate(schedule, input)->makespan_seconds, 11, 1e-9);
  // Half the cores: whenever both run, both take twice as long; the first and the last pass run alone.
  input.host_cores = {2};
  EXPECT_NEAR(Simulate(schedule, input)->makespan_seconds, 20, 1e-9);
  // On hosts of their own nothing is shared.
  input.host_cores = {2, 2};
  input.stages[1].loads[0].host = 1;
  EXPECT_NEAR(Simulate(schedule, input)->makespan_seconds, 11, 1e-9);
}

TEST(SimulatorTest, TheSlowestStageSetsThePace) {
  SimulationInput input = Equal(3, 1, 2);
  input.stages[1].forward_seconds = 2;
  input.stages[1].backward_seconds = 4;
  const auto result = Simulate(*BuildSchedule(ScheduleKind::k1F1B, 3, 50), input);
  ASSERT_TRUE(result.ok());
  EXPECT_GE(result->makespan_seconds, 50 * 6.0);
  EXPECT_LE(result->makespan_seconds, 50 * 6.0 + 20);
}

TEST(SimulatorTest, AwkwardNumbersTerminate) {
  SimulationInput input = Equal(4, 0.1, 0.2 / 3);
  input.link_latency_seconds = 1e-17;
  input.link_bytes_per_second = 3e9;
  input.host_cores = {1.1};
  for (StageCosts& costs : input.stages) costs.boundary_bytes = 7;
  const auto result = Simulate(*BuildSchedule(ScheduleKind::k1F1B, 4, 33), input);
  ASSERT_TRUE(result.ok());
  EXPECT_GT(result->makespan_seconds, 33 * (0.1 + 0.2 / 3) * 4 / 1.1 - 1e-6);
}

TEST(SimulatorTest, RefusesBadCostsAndStuckSchedules) {
  const Schedule schedule = *BuildSchedule(ScheduleKind::kGpipe, 2, 2);
  EXPECT_EQ(Simulate(schedule, Equal(3, 1, 1)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Simulate(schedule, Equal(2, -1, 1)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Simulate(schedule, Equal(2, std::numeric_limits<double>::quiet_NaN(), 1)).status().code(),
            absl::StatusCode::kInvalidArgument);
  SimulationInput no_host = Equal(2, 1, 1);
  no_host.host_cores = {1};
  no_host.stages[1].loads[0].host = 1;
  EXPECT_EQ(Simulate(schedule, no_host).status().code(), absl::StatusCode::kInvalidArgument);
  Schedule stuck = schedule;
  stuck[0].erase(stuck[0].begin() + 1);
  EXPECT_EQ(Simulate(stuck, Equal(2, 1, 1)).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace penstock
