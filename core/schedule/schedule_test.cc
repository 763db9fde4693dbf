#include "core/schedule/schedule.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

std::vector<std::string> Texts(const std::vector<Instruction>& list) {
  std::vector<std::string> texts;
  for (const Instruction& instruction : list) texts.push_back(instruction.ToString());
  return texts;
}

TEST(ScheduleTest, OneF1BOfTwoStagesIsWrittenOut) {
  const Schedule schedule = *BuildSchedule(ScheduleKind::k1F1B, 2, 3);
  ASSERT_EQ(schedule.size(), 2u);
  EXPECT_EQ(Texts(schedule[0]),
            (std::vector<std::string>{
                "Forward mb 0", "SendActivation mb 0 to stage 1", "Forward mb 1", "SendActivation mb 1 to stage 1",
                "RecvGradient mb 0 from stage 1", "Backward mb 0", "Forward mb 2", "SendActivation mb 2 to stage 1",
                "RecvGradient mb 1 from stage 1", "Backward mb 1", "RecvGradient mb 2 from stage 1", "Backward mb 2",
                "ReduceGradients", "OptimizerStep"}));
  EXPECT_EQ(Texts(schedule[1]),
            (std::vector<std::string>{"RecvActivation mb 0 from stage 0", "Forward mb 0", "Backward mb 0",
                                      "RecvActivation mb 1 from stage 0", "SendGradient mb 0 to stage 0",
                                      "Forward mb 1", "Backward mb 1", "RecvActivation mb 2 from stage 0",
                                      "SendGradient mb 1 to stage 0", "Forward mb 2", "Backward mb 2",
                                      "SendGradient mb 2 to stage 0", "ReduceGradients", "OptimizerStep"}));
}

TEST(ScheduleTest, GpipeRunsAllForwardPassesFirst) {
  const Schedule schedule = *BuildSchedule(ScheduleKind::kGpipe, 1, 2);
  EXPECT_EQ(Texts(schedule[0]), (std::vector<std::string>{"Forward mb 0", "Forward mb 1", "Backward mb 0",
                                                          "Backward mb 1", "ReduceGradients", "OptimizerStep"}));
}

TEST(ScheduleTest, ForwardOnlyHasNoUpdate) {
  const Schedule schedule = *BuildSchedule(ScheduleKind::kForwardOnly, 2, 1);
  EXPECT_EQ(Texts(schedule[0]), (std::vector<std::string>{"Forward mb 0", "SendActivation mb 0 to stage 1"}));
  EXPECT_EQ(Texts(schedule[1]), (std::vector<std::string>{"RecvActivation mb 0 from stage 0", "Forward mb 0"}));
}

TEST(ScheduleTest, PeakActivations) {
  for (int stages = 1; stages <= 6; ++stages) {
    for (int micro_batches = 1; micro_batches <= 9; ++micro_batches) {
      const Schedule gpipe = *BuildSchedule(ScheduleKind::kGpipe, stages, micro_batches);
      const Schedule one_f1b = *BuildSchedule(ScheduleKind::k1F1B, stages, micro_batches);
      const Schedule forward = *BuildSchedule(ScheduleKind::kForwardOnly, stages, micro_batches);
      for (int stage = 0; stage < stages; ++stage) {
        EXPECT_EQ(PeakActivations(gpipe, stage), micro_batches);
        EXPECT_EQ(PeakActivations(one_f1b, stage), std::min(micro_batches, stages - stage));
        EXPECT_EQ(PeakActivations(forward, stage), 1);
      }
    }
  }
}

TEST(ScheduleTest, RefusesNothingToDo) {
  EXPECT_EQ(BuildSchedule(ScheduleKind::kGpipe, 0, 4).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(BuildSchedule(ScheduleKind::k1F1B, 2, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(BuildSchedule(ScheduleKind::k1F1B, -1, 3).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
