#include "worker/runtime/rank_plan.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

v1::Assignment MakeAssignment(const TinyJob& job, int rank) {
  v1::Assignment assignment;
  assignment.set_job_id("job");
  assignment.set_epoch(1);
  *assignment.mutable_spec() = MakeTinyJob(job);
  assignment.set_rank(rank);
  for (int peer = 0; peer < job.pipeline * job.data * job.tensor; ++peer) {
    assignment.add_peers()->set_rank(peer);
    assignment.mutable_peers(peer)->set_worker_id(absl::StrCat("worker-", 10 + peer));
  }
  assignment.add_shards("127.0.0.1:1");
  return assignment;
}

TEST(RankPlanTest, PartsCoverWhatTheStageHoldsOnce) {
  for (const int zero : {0, 1}) {
    for (int rank = 0; rank < 8; ++rank) {
      const auto plan = MakeRankPlan(MakeAssignment({.pipeline = 4, .data = 2, .zero = zero}, rank));
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->at.stage, rank / 2);
      EXPECT_EQ(plan->leader(), rank == 6);
      EXPECT_EQ(plan->NameOf(3), "worker-13");
      EXPECT_EQ(plan->data_group, (std::vector<int>{rank / 2 * 2, rank / 2 * 2 + 1}));
      const auto covered = [](const std::vector<std::vector<Part>>& parts) {
        int64_t at = 0;
        for (const auto& list : parts) {
          for (const Part& part : list) {
            EXPECT_EQ(part.begin, at);
            at += part.count;
          }
        }
        return at;
      };
      EXPECT_EQ(covered(plan->untied_parts), plan->parameters.untied.size());
      EXPECT_EQ(covered(plan->tied_parts), plan->parameters.tied.size());
      EXPECT_EQ(plan->parameters.tied.empty(), plan->at.stage == 1 || plan->at.stage == 2);
      if (zero == 0) {
        EXPECT_EQ(plan->mine().size() > 0, plan->at.data_rank == 0);
      }
    }
  }
}

TEST(RankPlanTest, TensorRanksOfAStageShareOnlyWhatIsReplicated) {
  const TinyJob job = {.pipeline = 2, .data = 2, .zero = 1, .tensor = 2};
  for (int rank = 0; rank < 8; ++rank) {
    const auto plan = MakeRankPlan(MakeAssignment(job, rank));
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->at.tensor_rank, rank % 2);
    EXPECT_EQ(plan->speaks(), rank % 2 == 0);
    EXPECT_EQ(plan->leader(), rank == 4);
    EXPECT_EQ(plan->tensor_group, (std::vector<int>{rank / 2 * 2, rank / 2 * 2 + 1}));
    EXPECT_EQ(plan->data_group.size(), 2u);
    EXPECT_EQ(plan->Place(),
              absl::StrCat("stage ", rank / 4, ", data rank ", rank / 2 % 2, ", tensor rank ", rank % 2));
    int64_t owned = 0;
    for (const auto& parts : plan->untied_parts) {
      for (const Part& part : parts) owned += part.count;
    }
    EXPECT_EQ(owned, plan->parameters.untied.size() - (rank % 2 == 0 ? 0 : plan->parameters.shared));
    EXPECT_GT(plan->parameters.shared, 0);
  }
}

TEST(RankPlanTest, AnAssignmentThatContradictsItselfIsRefused) {
  const v1::Assignment good = MakeAssignment({.pipeline = 2}, 1);
  ASSERT_TRUE(MakeRankPlan(good).ok());
  const auto refused = [&](auto change) {
    v1::Assignment bad = good;
    change(bad);
    return absl::IsInvalidArgument(MakeRankPlan(bad).status());
  };
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.set_rank(2); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.set_rank(0xffffffff); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.mutable_peers()->RemoveLast(); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.mutable_peers(0)->set_rank(1); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.clear_shards(); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.set_start_step(1000); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.mutable_spec()->mutable_model()->set_hidden(0); }));
  EXPECT_TRUE(refused([](v1::Assignment& a) { a.mutable_spec()->mutable_parallel()->set_pipeline(7); }));
}

}  // namespace
}  // namespace penstock
