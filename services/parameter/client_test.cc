// What the clients do with shards that are slow, away, gone or fenced.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "services/parameter/test_job.h"

namespace penstock {
namespace {

TEST(ClientTest, CancelEndsEveryCallAtOnceAndForGood) {
  TestCluster cluster(TestSpec(), {.shards = 2});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  const std::unique_ptr<ParameterClient> client = cluster.Client(1);
  std::vector<float> weights(cluster.table.size());
  const std::vector<PullRange> ranges = {{cluster.table.range(), weights.data()}};
  std::promise<void> started;
  std::future<absl::Status> pull = std::async(std::launch::async, [&] {
    started.set_value();
    return client->Pull(1, ranges);
  });
  std::promise<absl::Status> prepared;
  v1::PrepareRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(1);
  request.set_step(1);
  client->shard(0).PrepareAsync(
      request, {.timeout = absl::Seconds(60), .group = &client->group()},
      [&](const absl::StatusOr<v1::PrepareResponse>& reply) { prepared.set_value(reply.status()); });
  started.get_future().wait();
  const auto begin = std::chrono::steady_clock::now();
  client->Cancel("the rank was stopped");
  const absl::Status pulled = pull.get();
  EXPECT_EQ(pulled.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(pulled.message(), "the rank was stopped");
  EXPECT_EQ(prepared.get_future().get().code(), absl::StatusCode::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  EXPECT_EQ(client->Pull(0, ranges).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(client->shard(0).Prepare(request, {.group = &client->group()}).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(ClientTest, DestroyingTheClientEndsItsCallsFirst) {
  TestCluster cluster(TestSpec(), {.shards = 2});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  std::unique_ptr<ParameterClient> client = cluster.Client(1);
  v1::PrepareRequest request;
  request.set_job_id(kTestJob);
  request.set_epoch(1);
  request.set_step(1);
  std::atomic<int> cancelled{0};
  for (int i = 0; i < 20; ++i) {
    client->shard(i % 2).PrepareAsync(
        request, {.timeout = absl::Seconds(60), .group = &client->group()},
        [&](const absl::StatusOr<v1::PrepareResponse>& reply) { cancelled += absl::IsCancelled(reply.status()); });
  }
  client.reset();
  EXPECT_EQ(cancelled, 20);
}

TEST(ClientTest, CancelEndsAPushToAShardThatIsAway) {
  ParameterClient::Options options;
  options.job_id = kTestJob;
  options.epoch = 1;
  options.shards = {"127.0.0.1:1"};
  options.elements = 100;
  const absl::StatusOr<std::unique_ptr<ParameterClient>> client = ParameterClient::Create(options);
  ASSERT_TRUE(client.ok());
  const std::vector<float> gradient(100);
  const std::vector<PushRange> ranges = {{{0, 100}, gradient.data()}};
  std::future<absl::Status> push = std::async(std::launch::async, [&] { return (*client)->Push(1, ranges); });
  // Long enough for the first attempt to fail, most of the time; right in either case.
  EXPECT_EQ(push.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  (*client)->Cancel();
  EXPECT_EQ(push.get().code(), absl::StatusCode::kCancelled);
}

TEST(ClientTest, AShardThatIsAwayIsGivenUpAfterAWhile) {
  ParameterClient::Options options;
  options.job_id = kTestJob;
  options.shards = {"127.0.0.1:1"};
  options.elements = 100;
  options.unavailable_timeout = absl::Milliseconds(200);
  const absl::StatusOr<std::unique_ptr<ParameterClient>> client = ParameterClient::Create(options);
  ASSERT_TRUE(client.ok());
  std::vector<float> weights(100);
  const std::vector<PullRange> ranges = {{{0, 100}, weights.data()}};
  const absl::Status status = (*client)->Pull(0, ranges);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("shard 0: Pull at 127.0.0.1:1"), absl::string_view::npos) << status;
}

TEST(ClientTest, OneShardsErrorEndsTheOthers) {
  TestCluster cluster(TestSpec(), {.shards = 2});
  // Only the first shard has the job, and its pull of version 1 would wait for ever.
  ASSERT_TRUE(cluster.clients[0]->OpenJob(cluster.OpenRequest(0, 1), {}).ok());
  const absl::Status status = cluster.PullAll(1, 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("shard 1"), absl::string_view::npos) << status;
}

TEST(ClientTest, ComesBackWhenAShardDoes) {
  const v1::JobSpec spec = TestSpec();
  auto cluster = std::make_unique<TestCluster>(spec, TestCluster::Options{.shards = 1});
  const std::string address = cluster->servers[0]->address();
  const std::unique_ptr<ParameterClient> client = cluster->Client(1);
  cluster->servers[0].reset();
  std::vector<float> weights(cluster->table.size());
  std::future<absl::Status> pull = std::async(std::launch::async, [&] {
    const std::vector<PullRange> ranges = {{cluster->table.range(), weights.data()}};
    return client->Pull(0, ranges);
  });
  EXPECT_EQ(pull.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  ParameterServer::Options options;
  options.address = address;
  absl::StatusOr<std::unique_ptr<ParameterServer>> again = ParameterServer::Start(options);
  ASSERT_TRUE(again.ok()) << again.status();
  // It comes back empty: the pull may see that, too. Then it says so and doesn't wait.
  ASSERT_TRUE((*again)->jobs().Open(cluster->OpenRequest(0, 1)).ok());
  const absl::Status status = pull.get();
  EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
}

TEST(ClientTest, PullsRangesInAnyOrderAndPieces) {
  const v1::JobSpec spec = TestSpec();
  ReferenceJob reference(spec);
  TestCluster cluster(spec, {.shards = 3});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  const int64_t size = cluster.table.size();
  std::vector<float> weights(size, -1.0f);
  std::vector<PullRange> ranges;
  for (const ElementRange& range : SplitBySize(cluster.table.range(), 7919)) {
    ranges.push_back({range, weights.data() + range.begin});
  }
  std::reverse(ranges.begin(), ranges.end());
  ASSERT_EQ(cluster.Client(1)->Pull(0, ranges), absl::OkStatus());
  EXPECT_EQ(weights, reference.weights);
  const std::vector<PullRange> beyond = {{{size - 1, size + 1}, weights.data()}};
  EXPECT_EQ(cluster.Client(1)->Pull(0, beyond).code(), absl::StatusCode::kOutOfRange);
}

TEST(ClientTest, DeadlinesAreKeptAndNamed) {
  TestCluster cluster(TestSpec(), {.shards = 1});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  const absl::Status status = cluster.Prepare(0, 1, 1, absl::Milliseconds(50)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(status.message().find("shard 0: Prepare at "), absl::string_view::npos) << status;
}

TEST(ClientTest, BadOptionsAreRefused) {
  ParameterClient::Options options;
  options.elements = 100;
  EXPECT_EQ(ParameterClient::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.shards = {"127.0.0.1:1"};
  options.elements = 0;
  EXPECT_EQ(ParameterClient::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
