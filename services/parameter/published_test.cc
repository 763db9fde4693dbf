// A job whose ranks update by themselves and publish their state at some steps (zero.mirror off).
#include <gtest/gtest.h>

#include <vector>

#include "core/commit/decision.h"
#include "core/plan/job_rules.h"
#include "services/parameter/test_job.h"

namespace penstock {
namespace {

v1::JobSpec PublishedSpec() {
  v1::JobSpec spec = TestSpec();
  spec.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
  spec.mutable_parallel()->mutable_zero()->set_mirror(v1::ZeroSpec::MIRROR_OFF);
  FillDefaults(&spec);
  return spec;
}

v1::StepDecision DecisionOf(uint64_t step) {
  v1::StepDecision decision;
  decision.set_step(step);
  *decision.mutable_inputs() = TestInputs(step);
  return decision;
}

std::vector<PushRange> StateOf(const ReferenceJob& reference) {
  const ElementRange all = reference.table.range();
  return {{all, reference.weights.data(), v1::STATE_KIND_WEIGHTS},
          {all, reference.exp_avg.data(), v1::STATE_KIND_EXP_AVG},
          {all, reference.exp_avg_sq.data(), v1::STATE_KIND_EXP_AVG_SQ}};
}

TEST(PublishedTest, TakesAWholeStateAndTheRecordsOfTheStepsBetween) {
  const v1::JobSpec spec = PublishedSpec();
  ReferenceJob reference(spec);
  TestCluster cluster(spec);
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 4; ++step) reference.Step(step);
  const std::unique_ptr<ParameterClient> client = cluster.Client(1);
  ASSERT_EQ(client->Push(4, StateOf(reference)), absl::OkStatus());
  v1::StepRecord third = MakeRecord(DecisionOf(3), 1);
  for (int shard = 0; shard < 2; ++shard) {
    ASSERT_TRUE(cluster.Prepare(shard, 1, 4).ok());
    v1::CommitRequest request;
    request.set_job_id(kTestJob);
    request.set_epoch(1);
    *request.mutable_decision() = DecisionOf(4);
    *request.add_records() = third;
    const auto committed = cluster.clients[shard]->Commit(request, {});
    ASSERT_TRUE(committed.ok()) << committed.status();
    EXPECT_EQ(committed->committed_step(), 4u);
  }
  EXPECT_EQ(*cluster.Digest(4), reference.Digest(4));
  const absl::Status past = client->AwaitVersion(3, std::vector<ElementRange>{{0, 10}}, absl::Seconds(5));
  EXPECT_EQ(past.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(client->AwaitVersion(4, std::vector<ElementRange>{reference.table.range()}, absl::Seconds(5)),
            absl::OkStatus());
  v1::GetStepsRequest steps;
  steps.set_job_id(kTestJob);
  const auto records = cluster.clients[1]->GetSteps(steps, {});
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->records_size(), 2);
  EXPECT_EQ(records->records(0).step(), 3u);
  EXPECT_EQ(records->records(1).step(), 4u);

  // What a rank that starts from here takes.
  std::vector<float> moments(reference.table.size());
  const std::vector<PullRange> ranges = {{reference.table.range(), moments.data(), v1::STATE_KIND_EXP_AVG_SQ}};
  ASSERT_EQ(client->Pull(4, ranges), absl::OkStatus());
  EXPECT_EQ(moments, reference.exp_avg_sq);
}

TEST(PublishedTest, AStateThatCameInPartIsLostToTheNextEpochAndNobodyReadsIt) {
  const v1::JobSpec spec = PublishedSpec();
  ReferenceJob reference(spec);
  TestCluster cluster(spec);
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  const std::vector<PushRange> some = {{{0, 100}, reference.weights.data(), v1::STATE_KIND_WEIGHTS}};
  ASSERT_EQ(cluster.Client(1)->Push(2, some), absl::OkStatus());
  EXPECT_FALSE(cluster.Digest(0).ok());
  EXPECT_EQ(cluster.Seal(0, 2).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(cluster.Seal(1, 2).ok()) << "nothing of it came here";
  // Opened again it is whole.
  ASSERT_EQ(cluster.Open(3), absl::OkStatus());
  EXPECT_EQ(*cluster.Digest(0), ReferenceJob(spec).Digest(0));
}

TEST(PublishedTest, GradientsAreRefused) {
  const v1::JobSpec spec = PublishedSpec();
  TestCluster cluster(spec);
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  EXPECT_EQ(cluster.Push(1, 1).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
