// The numbers don't depend on how they are sharded, nor on threads, and they are core's.
#include <gtest/gtest.h>

#include "services/parameter/test_job.h"

namespace penstock {
namespace {

class ShardingTest : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(ShardingTest, WeightsAndDigestsAreTheReferencesBits) {
  const auto [shards, threads] = GetParam();
  const v1::JobSpec spec = TestSpec(3);
  ReferenceJob reference(spec);
  TestCluster cluster(spec, {.shards = shards, .threads = threads});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  const absl::StatusOr<std::vector<float>> initial = cluster.PullAll(1, 0);
  ASSERT_TRUE(initial.ok()) << initial.status();
  EXPECT_EQ(*initial, reference.weights);
  EXPECT_EQ(*cluster.Digest(0), reference.Digest(0));
  for (uint64_t step = 1; step <= 3; ++step) {
    reference.Step(step);
    ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
    const absl::StatusOr<std::vector<float>> weights = cluster.PullAll(1, step);
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ(*weights, reference.weights) << "step " << step;
    EXPECT_EQ(*cluster.Digest(step), reference.Digest(step)) << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, ShardingTest,
                         testing::Values(std::pair(1, 1), std::pair(1, 4), std::pair(2, 2), std::pair(3, 1),
                                         std::pair(3, 3)));

TEST(ShardingTest, MoreShardsThanPieces) {
  const v1::JobSpec spec = TinySpec(2);
  ReferenceJob reference(spec);
  TestCluster cluster(spec, {.shards = 3});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 2; ++step) {
    reference.Step(step);
    ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  }
  EXPECT_EQ(*cluster.PullAll(1, 2), reference.weights);
  EXPECT_EQ(*cluster.Digest(2), reference.Digest(2));
}

TEST(ShardingTest, TheUpdateMovesTheWeights) {
  ReferenceJob reference(TestSpec(3));
  const std::vector<float> initial = reference.weights;
  reference.Step(1);
  int64_t moved = 0;
  for (size_t i = 0; i < initial.size(); ++i) moved += initial[i] != reference.weights[i];
  EXPECT_GT(moved, static_cast<int64_t>(initial.size() / 2));
}

TEST(ShardingTest, ReportsWhatItHolds) {
  const v1::JobSpec spec = TestSpec();
  TestCluster cluster(spec, {.shards = 2});
  const absl::StatusOr<v1::OpenJobResponse> first = cluster.clients[0]->OpenJob(cluster.OpenRequest(0, 1), {});
  const absl::StatusOr<v1::OpenJobResponse> second = cluster.clients[1]->OpenJob(cluster.OpenRequest(1, 1), {});
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->range_begin(), 0u);
  EXPECT_EQ(first->range_end(), second->range_begin());
  EXPECT_EQ(second->range_end(), static_cast<uint64_t>(cluster.table.size()));
  // Weights, two moments, a gradient and a snapshot of the first three.
  EXPECT_EQ(first->bytes_held(), 7 * 4 * first->range_end());
}

}  // namespace
}  // namespace penstock
