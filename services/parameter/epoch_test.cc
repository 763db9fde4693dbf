// The step and the epochs over gRPC: waits that end, fences that hold, decisions that are applied once.
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "services/parameter/test_job.h"

namespace penstock {
namespace {

class EpochTest : public testing::Test {
 protected:
  EpochTest() : reference_(TestSpec()), cluster_(TestSpec(), {.shards = 2}) {
    EXPECT_EQ(cluster_.Open(1), absl::OkStatus());
  }

  absl::Status Decide(int shard, uint64_t epoch, uint64_t step, const v1::StepDecision* decision) {
    v1::DecideRequest request;
    request.set_job_id(kTestJob);
    request.set_epoch(epoch);
    request.set_step(step);
    if (decision != nullptr) *request.mutable_decision() = *decision;
    return cluster_.clients[shard]->Decide(request, {absl::Seconds(10)}).status();
  }

  ReferenceJob reference_;
  TestCluster cluster_;
};

TEST_F(EpochTest, ASealEndsAPrepareThatWaits) {
  std::promise<absl::StatusOr<v1::PrepareResponse>> reply;
  v1::PrepareRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(1);
  request.set_step(1);
  *request.mutable_inputs() = TestInputs(1);
  cluster_.clients[0]->PrepareAsync(request, {absl::Seconds(30)},
                                    [&](absl::StatusOr<v1::PrepareResponse> r) { reply.set_value(std::move(r)); });
  // Whether the seal comes before or after it: it ends at once.
  ASSERT_TRUE(cluster_.Seal(0, 2).ok());
  std::future<absl::StatusOr<v1::PrepareResponse>> future = reply.get_future();
  ASSERT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(future.get().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EpochTest, APullWaitsForItsVersion) {
  std::vector<float> weights(cluster_.table.size());
  const std::unique_ptr<ParameterClient> client = cluster_.Client(1);
  std::future<absl::Status> pull = std::async(std::launch::async, [&] {
    const std::vector<PullRange> ranges = {{cluster_.table.range(), weights.data()}};
    return client->Pull(1, ranges);
  });
  ASSERT_EQ(cluster_.Step(1, 1), absl::OkStatus());
  EXPECT_EQ(pull.get(), absl::OkStatus());
  reference_.Step(1);
  EXPECT_EQ(weights, reference_.weights);
}

TEST_F(EpochTest, APullThatWaitsEndsWithASeal) {
  std::vector<float> weights(cluster_.table.size());
  const std::unique_ptr<ParameterClient> client = cluster_.Client(1);
  std::future<absl::Status> pull = std::async(std::launch::async, [&] {
    const std::vector<PullRange> ranges = {{cluster_.table.range(), weights.data()}};
    return client->Pull(1, ranges);
  });
  ASSERT_TRUE(cluster_.Seal(1, 2).ok());
  const absl::Status status = pull.get();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("shard 1"), absl::string_view::npos) << status;
}

TEST_F(EpochTest, PastAndFarVersionsCanNotBePulled) {
  for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster_.Step(1, step), absl::OkStatus());
  EXPECT_EQ(cluster_.PullAll(1, 1).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cluster_.PullAll(1, 4).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EpochTest, PullsOfElementsThatAreNotTheShardsOwn) {
  std::vector<float> weights(cluster_.table.size());
  const std::vector<PullRange> all = {{cluster_.table.range(), weights.data()}};
  EXPECT_EQ(cluster_.clients[0]->Pull(kTestJob, 1, 0, all, {}).code(), absl::StatusCode::kOutOfRange);
  const std::vector<PullRange> empty = {{{5, 5}, weights.data()}};
  EXPECT_EQ(cluster_.clients[0]->Pull(kTestJob, 1, 0, empty, {}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(EpochTest, CommitIsIdempotent) {
  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  const absl::StatusOr<v1::StepDecision> decision = cluster_.PrepareAndDecide(1, 1);
  ASSERT_TRUE(decision.ok());
  std::vector<std::thread> askers;
  for (int i = 0; i < 4; ++i) {
    askers.emplace_back([&] {
      for (int shard = 0; shard < 2; ++shard) EXPECT_EQ(cluster_.Commit(shard, 1, *decision), absl::OkStatus());
    });
  }
  for (std::thread& asker : askers) asker.join();
  reference_.Step(1);
  EXPECT_EQ(*cluster_.PullAll(1, 1), reference_.weights);
}

TEST_F(EpochTest, APreparedStepIsReportedAndCommittedUnderANewerEpoch) {
  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  const absl::StatusOr<v1::StepDecision> decision = cluster_.PrepareAndDecide(1, 1);
  ASSERT_TRUE(decision.ok());
  // The leader dies after the first shard's commit.
  ASSERT_EQ(cluster_.Commit(0, 1, *decision), absl::OkStatus());
  const absl::StatusOr<v1::SealResponse> first = cluster_.Seal(0, 2);
  const absl::StatusOr<v1::SealResponse> second = cluster_.Seal(1, 2);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->committed_step(), 1u);
  EXPECT_EQ(first->last_decision().step(), 1u);
  EXPECT_EQ(first->incarnation(), cluster_.servers[0]->incarnation());
  EXPECT_EQ(first->open_epoch(), 1u);
  EXPECT_EQ(second->committed_step(), 0u);
  EXPECT_EQ(second->prepared().step(), 1u);
  // The dead leader's commit comes late and is refused; the decision is applied.
  EXPECT_EQ(cluster_.Commit(1, 1, *decision).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Decide(1, 2, 1, &first->last_decision()), absl::OkStatus());
  EXPECT_EQ(Decide(1, 2, 1, &first->last_decision()), absl::OkStatus());
  reference_.Step(1);
  EXPECT_EQ(*cluster_.PullAll(2, 1), reference_.weights);
  // Training goes on under the new epoch alone.
  EXPECT_EQ(cluster_.Push(1, 2).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_EQ(cluster_.Step(2, 2), absl::OkStatus());
  reference_.Step(2);
  EXPECT_EQ(*cluster_.Digest(2), reference_.Digest(2));
}

TEST_F(EpochTest, AStepThatIsDiscardedLeavesNoTrace) {
  ASSERT_EQ(cluster_.Push(1, 1), absl::OkStatus());
  ASSERT_TRUE(cluster_.Prepare(0, 1, 1).ok());  // and not on shard 1
  for (int shard = 0; shard < 2; ++shard) ASSERT_TRUE(cluster_.Seal(shard, 2).ok());
  EXPECT_EQ(Decide(0, 2, 1, nullptr), absl::OkStatus());
  EXPECT_EQ(Decide(1, 2, 1, nullptr), absl::OkStatus());
  EXPECT_EQ(*cluster_.PullAll(2, 0), reference_.weights);
  ASSERT_EQ(cluster_.Step(2, 1), absl::OkStatus());
  reference_.Step(1);
  EXPECT_EQ(*cluster_.Digest(1), reference_.Digest(1));
}

TEST_F(EpochTest, RecordsOfTheLastSteps) {
  for (uint64_t step = 1; step <= 3; ++step) ASSERT_EQ(cluster_.Step(1, step), absl::OkStatus());
  v1::GetStepsRequest request;
  request.set_job_id(kTestJob);
  request.set_from_step(2);
  const absl::StatusOr<v1::GetStepsResponse> steps = cluster_.clients[1]->GetSteps(request, {});
  ASSERT_TRUE(steps.ok()) << steps.status();
  EXPECT_EQ(steps->committed_step(), 3u);
  ASSERT_EQ(steps->records_size(), 2);
  EXPECT_EQ(steps->records(0).step(), 2u);
  EXPECT_EQ(steps->records(1).step(), 3u);
  EXPECT_EQ(steps->records(1).epoch(), 1u);
  EXPECT_DOUBLE_EQ(steps->records(1).loss(), 1000.0 / 3 / 256);
  EXPECT_EQ(steps->records(1).samples(0).begin(), 16u);
}

// ---- Opening and closing ----

TEST_F(EpochTest, OpenIsIdempotentByEpoch) {
  ASSERT_EQ(cluster_.Step(1, 1), absl::OkStatus());
  const absl::StatusOr<v1::OpenJobResponse> again = cluster_.clients[0]->OpenJob(cluster_.OpenRequest(0, 1), {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->committed_step(), 1u);
  // The same epoch with another place isn't the same job.
  v1::OpenJobRequest other = cluster_.OpenRequest(1, 1);
  EXPECT_EQ(cluster_.clients[0]->OpenJob(other, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(EpochTest, OpenUnderANewerEpochStartsAnew) {
  ASSERT_EQ(cluster_.Step(1, 1), absl::OkStatus());
  ASSERT_EQ(cluster_.Open(5), absl::OkStatus());
  EXPECT_EQ(*cluster_.PullAll(5, 0), reference_.weights);
  EXPECT_EQ(cluster_.Open(4).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cluster_.Push(1, 2).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EpochTest, CloseFreesTheMemoryAndIsFenced) {
  v1::CloseJobRequest request;
  request.set_job_id(kTestJob);
  ASSERT_TRUE(cluster_.Seal(0, 3).ok());
  request.set_epoch(2);
  EXPECT_EQ(cluster_.clients[0]->CloseJob(request, {}).status().code(), absl::StatusCode::kFailedPrecondition);
  request.set_epoch(3);
  EXPECT_EQ(cluster_.clients[0]->CloseJob(request, {}).status(), absl::OkStatus());
  EXPECT_EQ(cluster_.clients[0]->CloseJob(request, {}).status(), absl::OkStatus());
  EXPECT_EQ(cluster_.Seal(0, 4).status().code(), absl::StatusCode::kNotFound);
  // A paused old coordinator's OpenJob doesn't bring it back.
  EXPECT_EQ(cluster_.clients[0]->OpenJob(cluster_.OpenRequest(0, 2), {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(cluster_.clients[0]->OpenJob(cluster_.OpenRequest(0, 6), {}).ok());
}

TEST_F(EpochTest, AnOpenThatComesAfterTheLastCloseBringsNothingBack) {
  v1::CloseJobRequest request;
  request.set_job_id(kTestJob);
  // As the coordinator ends a job: above its last epoch.
  request.set_epoch(2);
  EXPECT_EQ(cluster_.clients[0]->CloseJob(request, {}).status(), absl::OkStatus());
  EXPECT_EQ(cluster_.clients[0]->OpenJob(cluster_.OpenRequest(0, 1), {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  // The same where the Close comes first and finds nothing.
  request.set_job_id("other");
  EXPECT_EQ(cluster_.clients[0]->CloseJob(request, {}).status(), absl::OkStatus());
  v1::OpenJobRequest late = cluster_.OpenRequest(0, 1);
  late.set_job_id("other");
  EXPECT_EQ(cluster_.clients[0]->OpenJob(late, {}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EpochTest, CloseEndsThoseWhoWait) {
  std::future<absl::Status> prepare =
      std::async(std::launch::async, [&] { return cluster_.Prepare(0, 1, 1, absl::Seconds(30)).status(); });
  v1::CloseJobRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(1);
  EXPECT_EQ(cluster_.clients[0]->CloseJob(request, {}).status(), absl::OkStatus());
  // UNAVAILABLE for one that comes while the job is being closed.
  const absl::Status status = prepare.get();
  EXPECT_TRUE(absl::IsNotFound(status) || absl::IsUnavailable(status)) << status;
}

TEST(OpenTest, WhatCanNotBeOpened) {
  TestCluster cluster(TestSpec(), {.shards = 1, .memory_bytes_max = 1 << 20});
  const absl::Status big = cluster.Open(1);
  EXPECT_EQ(big.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(big.message().find("--memory_bytes_max"), absl::string_view::npos) << big;
  v1::OpenJobRequest request = cluster.OpenRequest(0, 1);
  request.set_shard_index(1);
  EXPECT_EQ(cluster.clients[0]->OpenJob(request, {}).status().code(), absl::StatusCode::kInvalidArgument);
  request = cluster.OpenRequest(0, 1);
  request.mutable_spec()->mutable_model()->set_heads(7);
  EXPECT_EQ(cluster.clients[0]->OpenJob(request, {}).status().code(), absl::StatusCode::kInvalidArgument);
  request = cluster.OpenRequest(0, 1, "/no/such/checkpoint");
  EXPECT_EQ(cluster.clients[0]->OpenJob(request, {}).status().code(), absl::StatusCode::kNotFound);
}

TEST(OpenTest, TwentyJobsOneAfterTheOther) {
  const v1::JobSpec spec = TestSpec();
  const ParameterTable table = TestTable(spec);
  // Room for one of them at a time.
  TestCluster cluster(spec, {.shards = 1, .memory_bytes_max = static_cast<uint64_t>(table.size()) * 4 * 8});
  for (uint64_t epoch = 1; epoch <= 20; ++epoch) {
    ASSERT_EQ(cluster.Open(epoch), absl::OkStatus());
    v1::CloseJobRequest request;
    request.set_job_id(kTestJob);
    request.set_epoch(epoch);
    ASSERT_TRUE(cluster.clients[0]->CloseJob(request, {}).ok());
  }
}

}  // namespace
}  // namespace penstock
