#include "coordinator/jobs/diagnosis.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

RankView View(int rank, uint64_t step, uint32_t index, const std::string& instruction) {
  RankView view{rank, absl::StrCat("worker-", rank), v1::Cursor()};
  view.cursor->set_step(step);
  view.cursor->set_instruction_index(index);
  view.cursor->set_instruction(instruction);
  return view;
}

Mesh MakeMesh(int pipeline, int data) { return *Mesh::Create(pipeline, data, 1); }

TEST(DiagnosisTest, ALostWorkerIsNamedWithItsPlace) {
  EXPECT_EQ(
      DescribeLost(MakeMesh(2, 2), View(2, 57, 4, "Backward mb 3"), "connection closed; lease expired after 2s"),
      "worker-2 (stage 1, data 0) was lost at step 57 in Backward mb 3: connection closed; lease expired after 2s");
  RankView silent{3, "worker-3", std::nullopt};
  EXPECT_EQ(DescribeLost(MakeMesh(2, 2), silent, "silent"), "worker-3 (stage 1, data 1) was lost: silent");
  EXPECT_EQ(DescribeLost(*Mesh::Create(1, 1, 2), View(1, 1, 0, "Forward mb 0"), "x"),
            "worker-1 (stage 0, data 0, tensor 1) was lost at step 1 in Forward mb 0: x");
}

TEST(DiagnosisTest, ASuspectThatIsOutOfReachComesFirst) {
  v1::RankFailed failed;
  failed.set_code(14);
  failed.set_message("connection closed by peer");
  const RankView rank = View(0, 57, 5, "RecvGradient mb 1 from stage 1");
  EXPECT_EQ(DescribeFailure(MakeMesh(2, 2), rank, failed, std::nullopt),
            "worker-0 (stage 0, data 0) failed at step 57 in RecvGradient mb 1 from stage 1: UNAVAILABLE: connection "
            "closed by peer");
  EXPECT_EQ(DescribeFailure(MakeMesh(2, 2), rank, failed, View(2, 57, 4, "Backward mb 3")),
            "worker-2 (stage 1, data 0) is out of reach since step 57 in Backward mb 3, says worker-0 (stage 0, data "
            "0): UNAVAILABLE: connection closed by peer");
}

TEST(DiagnosisTest, AStallNamesTheOneThatComputesAndWhoWaitsForIt) {
  const std::vector<RankView> ranks = {View(0, 7, 6, "RecvGradient mb 1 from stage 1"), View(1, 7, 3, "Backward mb 1")};
  EXPECT_EQ(DescribeStall(MakeMesh(2, 1), ranks, absl::Seconds(12.3)),
            "no step was committed for 12s: worker-0 (stage 0, data 0) waits in RecvGradient mb 1 from stage 1 for "
            "worker-1 (stage 1, data 0), which is in Backward mb 1 of step 7");
}

TEST(DiagnosisTest, AStallIsFollowedThroughTheWholeChain) {
  const std::vector<RankView> ranks = {
      View(0, 7, 9, "ReduceGradients"),
      View(1, 7, 5, "RecvGradient mb 2 from stage 1"),
      View(2, 7, 9, "OptimizerStep"),
      View(3, 7, 4, "Forward mb 2"),
  };
  EXPECT_EQ(DescribeStall(MakeMesh(2, 2), ranks, absl::Seconds(10)),
            "no step was committed for 10s: worker-1 (stage 0, data 1) waits in RecvGradient mb 2 from stage 1 for "
            "worker-3 (stage 1, data 1), which is in Forward mb 2 of step 7");
}

TEST(DiagnosisTest, AStallAtTheUpdateIsTheShards) {
  const std::vector<RankView> ranks = {View(0, 7, 9, "OptimizerStep"), View(1, 7, 9, "OptimizerStep")};
  EXPECT_EQ(DescribeStall(MakeMesh(1, 2), ranks, absl::Seconds(10)),
            "no step was committed for 10s: every rank waits in OptimizerStep of step 7 for the parameter shards");
}

TEST(DiagnosisTest, ACircleIsToldAsItIs) {
  const std::vector<RankView> ranks = {View(0, 7, 2, "RecvGradient mb 0 from stage 1"),
                                       View(1, 7, 1, "RecvActivation mb 1 from stage 0")};
  EXPECT_EQ(DescribeStall(MakeMesh(2, 1), ranks, absl::Seconds(10)),
            "no step was committed for 10s: worker-0 (stage 0, data 0) is in RecvGradient mb 0 from stage 1 of step 7, "
            "worker-1 (stage 1, data 0) is in RecvActivation mb 1 from stage 0 of step 7");
}

TEST(DiagnosisTest, ARankThatHasSaidNothingIsTheOneWaitedFor) {
  std::vector<RankView> ranks = {View(0, 7, 2, "RecvGradient mb 0 from stage 1"),
                                 RankView{1, "worker-1", std::nullopt}};
  EXPECT_EQ(DescribeStall(MakeMesh(2, 1), ranks, absl::Seconds(10)),
            "no step was committed for 10s: worker-0 (stage 0, data 0) waits in RecvGradient mb 0 from stage 1 for "
            "worker-1 (stage 1, data 0), which has said nothing yet");
}

TEST(DiagnosisTest, AnInstructionThatMakesNoSenseDoesNoHarm) {
  const std::vector<RankView> ranks = {View(0, 7, 2, "RecvGradient mb 0 from stage 99"), View(1, 7, 1, "stage")};
  EXPECT_NE(DescribeStall(MakeMesh(2, 1), ranks, absl::Seconds(10)), "");
}

}  // namespace
}  // namespace penstock
