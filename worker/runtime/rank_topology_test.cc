#include "worker/runtime/rank_topology.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/layout/norm_plan.h"
#include "core/plan/job_rules.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

RankPlan PlanOf(const TinyJob& job, int rank, v1::ZeroSpec::Placement placement = v1::ZeroSpec::PLACEMENT_SERVICE) {
  v1::Assignment assignment;
  assignment.set_job_id("job");
  assignment.set_epoch(1);
  *assignment.mutable_spec() = MakeTinyJob(job);
  assignment.mutable_spec()->mutable_parallel()->mutable_zero()->set_placement(placement);
  FillDefaults(assignment.mutable_spec());
  assignment.set_rank(rank);
  for (int peer = 0; peer < job.pipeline * job.data * job.tensor; ++peer) {
    assignment.add_peers()->set_rank(peer);
    assignment.mutable_peers(peer)->set_worker_id(absl::StrCat("worker-", peer));
  }
  assignment.add_shards("127.0.0.1:1");
  return MakeRankPlan(assignment).value();
}

TEST(RankTopologyTest, BothEndsHaveALane) {
  for (const int zero : {0, 1}) {
    const TinyJob job = {.pipeline = 3, .data = 2, .zero = zero};
    std::vector<NcclTopology> ranks;
    for (int rank = 0; rank < 6; ++rank) ranks.push_back(TopologyOf(PlanOf(job, rank)));
    size_t lanes = 0;
    for (int rank = 0; rank < 6; ++rank) {
      EXPECT_EQ(ranks[rank].groups, (std::vector<std::vector<int>>{{rank / 2 * 2, rank / 2 * 2 + 1}}));
      for (const NcclLane& lane : ranks[rank].lanes) {
        EXPECT_TRUE(lane.from == rank || lane.to == rank);
        const auto& other = ranks[lane.from == rank ? lane.to : lane.from].lanes;
        EXPECT_EQ(std::count(other.begin(), other.end(), lane), 1) << NcclKey(lane);
        ++lanes;
      }
    }
    // Two pipelines of two boundaries with two directions, and for each tied gradient's owner one more; each at two
    // ends.
    EXPECT_EQ(lanes, 2 * (2 * 2 * 2 + (zero == 0 ? 1 : 2)));
  }
}

TEST(RankTopologyTest, TensorRanksAndLocalUpdatesHaveTheirs) {
  const TinyJob job = {.pipeline = 2, .data = 2, .tensor = 2};
  std::vector<RankPlan> plans;
  std::vector<NcclTopology> ranks;
  for (int rank = 0; rank < 8; ++rank) plans.push_back(PlanOf(job, rank, v1::ZeroSpec::PLACEMENT_LOCAL));
  for (const RankPlan& plan : plans) ranks.push_back(TopologyOf(plan));
  const auto has = [&](int rank, const NcclLane& lane) {
    return std::count(ranks[rank].lanes.begin(), ranks[rank].lanes.end(), lane) == 1;
  };
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(ranks[rank].groups, (std::vector<std::vector<int>>{plans[rank].data_group, plans[rank].tensor_group}));
    for (const NcclLane& lane : ranks[rank].lanes) EXPECT_TRUE(has(lane.from == rank ? lane.to : lane.from, lane));
    // The tied gradient goes from the last stage to the first, the new weights back.
    const int other = plans[rank].OnStage(plans[rank].first_stage() ? 1 : 0);
    EXPECT_TRUE(has(rank, {rank, other, ChannelOf(kTiedWeightsTag)}));
    EXPECT_TRUE(has(rank, {other, rank, ChannelOf(kTiedGradientTag)}));
  }
  // Each fragment of the norm that isn't at home has a lane.
  const std::vector<NormPiece> pieces = PlanNorm(plans[0].table.size(), plans[0].pushed).value();
  for (const NormPiece& piece : pieces) {
    for (const NormFragment& fragment : piece.fragments) {
      if (fragment.rank == piece.home) continue;
      EXPECT_TRUE(has(fragment.rank, {fragment.rank, piece.home, ChannelOf(kNormFragmentTag)}));
    }
  }
}

TEST(RankTopologyTest, WhatIsOnTheHostNeedsNoLanes) {
  RankPlan plan = PlanOf({.pipeline = 2, .data = 2, .zero = 2}, 0, v1::ZeroSpec::PLACEMENT_LOCAL);
  // Those of the tied gradient and weights, and of the norm, have one.
  const auto lanes = [&] {
    std::vector<NcclLane> lanes;
    for (const NcclLane& lane : TopologyOf(plan).lanes) {
      if (lane.channel == ChannelOf(kTiedGradientTag)) lanes.push_back(lane);
    }
    return lanes;
  };
  EXPECT_GT(lanes().size(), 2u);
  plan.assignment.mutable_spec()->mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CUDA);
  plan.assignment.mutable_spec()->mutable_parallel()->mutable_zero()->set_offload(v1::ZeroSpec::OFFLOAD_HOST);
  EXPECT_EQ(lanes(), (std::vector<NcclLane>{{0, plan.OnStage(1), ChannelOf(kTiedWeightsTag)}}));
}

TEST(RankTopologyTest, OneRankNeedsNothing) {
  const NcclTopology topology = TopologyOf(PlanOf({.pipeline = 1, .data = 1}, 0));
  EXPECT_TRUE(topology.lanes.empty());
  EXPECT_TRUE(topology.groups.empty());
}

}  // namespace
}  // namespace penstock
