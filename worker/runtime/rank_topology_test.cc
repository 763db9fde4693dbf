#include "worker/runtime/rank_topology.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

RankPlan PlanOf(const TinyJob& job, int rank) {
  v1::Assignment assignment;
  assignment.set_job_id("job");
  assignment.set_epoch(1);
  *assignment.mutable_spec() = MakeTinyJob(job);
  assignment.set_rank(rank);
  for (int peer = 0; peer < job.pipeline * job.data; ++peer) {
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

TEST(RankTopologyTest, OneRankNeedsNothing) {
  const NcclTopology topology = TopologyOf(PlanOf({.pipeline = 1, .data = 1}, 0));
  EXPECT_TRUE(topology.lanes.empty());
  EXPECT_TRUE(topology.groups.empty());
}

}  // namespace
}  // namespace penstock
