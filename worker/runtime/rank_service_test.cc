// Ranks with everything real but the processes: Gloo between them, gRPC to shards of the parameter service.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "worker/comm/fake/rendezvous.h"
#include "worker/comm/gloo/gloo_communicator.h"
#include "worker/runtime/parameter_state_client.h"
#include "worker/runtime/rank_test_util.h"
#include "worker/runtime/test_shards.h"

namespace penstock {
namespace {

using Kind = v1::MemberReport;
constexpr int kRanksMax = 8;

TestEpoch::Options EpochOptions(const v1::JobSpec& spec, const TestShards& shards, ReportLog* log, uint64_t epoch = 1,
                                uint64_t start_step = 0) {
  // One for each rank, as each process has its own.
  static auto* const devices = [] {
    auto* made = new std::vector<std::shared_ptr<GlooDevice>>;
    for (int i = 0; i < kRanksMax; ++i) made->push_back(*GlooDevice::Create("127.0.0.1"));
    return made;
  }();
  TestEpoch::Options options;
  options.spec = spec;
  options.log = log;
  options.epoch = epoch;
  options.start_step = start_step;
  options.shards = shards.addresses();
  options.state = CreateParameterStateClient;
  options.connect = [store = std::make_shared<FakeRendezvousStore>()](const RankPlan& plan) {
    GlooConnectorOptions gloo;
    gloo.device = devices->at(plan.rank());
    gloo.rendezvous = std::make_shared<FakeRendezvous>(store);
    gloo.rank = plan.rank();
    gloo.size = plan.mesh.size();
    for (const v1::Peer& peer : plan.assignment.peers()) gloo.names.push_back(peer.worker_id());
    return MakeGlooConnector(std::move(gloo));
  };
  return options;
}

std::string Train(const TinyJob& job, int shard_count) {
  const v1::JobSpec spec = MakeTinyJob(job);
  TestShards shards(spec, shard_count);
  ReportLog log;
  TestEpoch epoch(EpochOptions(spec, shards, &log));
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  EXPECT_EQ(log.Count(Kind::kStep), job.steps);
  EXPECT_EQ(log.Count(Kind::kFailed), 0);
  return shards.Digest(job.steps);
}

TEST(RankServiceTest, OneDigestOverDepthScheduleAndShards) {
  for (const int data : {1, 2}) {
    const std::string reference = Train({.pipeline = 1, .data = data}, 1);
    ASSERT_GT(reference.size(), 16u);
    EXPECT_EQ(reference, Train({.pipeline = 2, .data = data, .schedule = v1::ParallelSpec::SCHEDULE_GPIPE}, 2));
    EXPECT_EQ(reference, Train({.pipeline = 4, .data = data}, 3));
  }
}

TEST(RankServiceTest, RecoveriesChangeNoBit) {
  constexpr int kSteps = 12;
  const TinyJob job{.pipeline = 2, .data = 2, .steps = kSteps};
  const std::string reference = Train(job, 2);
  const v1::JobSpec spec = MakeTinyJob(job);
  TestShards shards(spec, 2);
  ReportLog log;
  uint64_t epoch = 1;
  uint64_t committed = 0;
  for (; epoch <= 8 && committed < kSteps; ++epoch) {
    TestEpoch ranks(EpochOptions(spec, shards, &log, epoch, committed));
    // One step further each time at most, then a stop at whatever the ranks are doing.
    log.WaitForCount(Kind::kStep, static_cast<int>(epoch) - 1);
    absl::SleepFor(absl::Milliseconds(7 * epoch % 5));
    const absl::Time begin = absl::Now();
    ranks.StopAll();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
    committed = shards.Seal(epoch + 1);
  }
  TestEpoch last(EpochOptions(spec, shards, &log, epoch, committed));
  ASSERT_TRUE(last.WaitFinished());
  last.StopAll();
  ExpectNoPermanentFailure(log);
  EXPECT_EQ(shards.Digest(kSteps), reference);
}

TEST(RankServiceTest, ASealedEpochEndsByItself) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .data = 2, .steps = 1000000});
  TestShards shards(spec, 2);
  ReportLog log;
  TestEpoch::Options options = EpochOptions(spec, shards, &log);
  options.hold_after_failure = absl::Milliseconds(100);
  TestEpoch epoch(options);
  ASSERT_TRUE(log.WaitForCount(Kind::kStep, 3));
  shards.Seal(2);
  for (int i = 0; i < epoch.size(); ++i) EXPECT_TRUE(epoch.rank(i).WaitEnded(absl::Seconds(10))) << "rank " << i;
  ExpectNoPermanentFailure(log);
}

}  // namespace
}  // namespace penstock
