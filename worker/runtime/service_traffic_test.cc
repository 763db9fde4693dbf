// The bytes that core/plan says a step takes to the parameter service and back, against what real shards count.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "core/plan/partition.h"
#include "core/plan/traffic_model.h"
#include "worker/runtime/parameter_state_client.h"
#include "worker/runtime/rank_test_util.h"
#include "worker/runtime/test_shards.h"

namespace penstock {
namespace {

constexpr int kShards = 2;

struct Placed {
  v1::ZeroSpec::Placement placement;
  v1::ZeroSpec::Mirror mirror;
  const char* name;
};

v1::JobSpec MakeSpec(const TinyJob& job, const Placed& placed, v1::TrainingSpec::Precision precision) {
  v1::JobSpec spec = MakeTinyJob(job);
  // Some pieces for each shard.
  spec.mutable_model()->set_hidden(64);
  spec.mutable_model()->clear_mlp_hidden();
  spec.mutable_training()->set_precision(precision);
  spec.mutable_parallel()->mutable_zero()->set_placement(placed.placement);
  spec.mutable_parallel()->mutable_zero()->set_mirror(placed.mirror);
  FillDefaults(&spec);
  for (const v1::JobViolation& violation : CheckJob(spec)) ADD_FAILURE() << violation.field() << violation.message();
  return spec;
}

struct ServiceBytes {
  int64_t pushed = 0;
  int64_t pulled = 0;
};

// Of a whole job: what comes before the first step and after the last one is the same whatever the number of steps.
ServiceBytes Count(const v1::JobSpec& spec) {
  TestShards shards(spec, kShards);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .log = &log, .shards = shards.addresses(), .state = CreateParameterStateClient});
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  EXPECT_EQ(log.Count(v1::MemberReport::kFailed), 0);
  return {shards.Counter("penstock_params_push_bytes_total"), shards.Counter("penstock_params_pull_bytes_total")};
}

void ExpectPredicted(TinyJob job, const Placed& placed, v1::TrainingSpec::Precision precision) {
  constexpr int kFewSteps = 2;
  constexpr int kMoreSteps = 3;
  job.steps = kFewSteps;
  const v1::JobSpec few = MakeSpec(job, placed, precision);
  job.steps = kFewSteps + kMoreSteps;
  const v1::JobSpec many = MakeSpec(job, placed, precision);
  const Mesh mesh = MeshOf(few).value();
  const ParameterTable table = ParameterTable::Create(few.model()).value();
  const auto ranks = TrafficOfRanks(few, table, PartitionStages(table, mesh.pipeline()).value(), mesh, kShards);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  ServiceBytes step;
  for (const RankTraffic& rank : *ranks) {
    step.pushed += rank.pushed;
    step.pulled += rank.pulled;
  }
  const ServiceBytes less = Count(few);
  const ServiceBytes more = Count(many);
  EXPECT_EQ(more.pushed - less.pushed, kMoreSteps * step.pushed);
  EXPECT_EQ(more.pulled - less.pulled, kMoreSteps * step.pulled);
  // Whether the counters count at all: every rank pulls what it begins with, and the last state is there.
  EXPECT_GT(less.pulled, 0);
  EXPECT_GE(less.pushed, 4 * table.size());
}

TEST(ServiceTrafficTest, ShardsCountTheBytesOfEveryStageAndPlacement) {
  constexpr Placed kPlacements[] = {
      {v1::ZeroSpec::PLACEMENT_SERVICE, v1::ZeroSpec::MIRROR_UNSPECIFIED, "service"},
      {v1::ZeroSpec::PLACEMENT_LOCAL, v1::ZeroSpec::MIRROR_ON, "local, mirror on"},
      {v1::ZeroSpec::PLACEMENT_LOCAL, v1::ZeroSpec::MIRROR_OFF, "local, mirror off"},
  };
  for (const Placed& placed : kPlacements) {
    for (const int zero : {0, 1, 2}) {
      for (const auto precision : {v1::TrainingSpec::PRECISION_FP32, v1::TrainingSpec::PRECISION_BF16}) {
        SCOPED_TRACE(absl::StrCat(placed.name, ", stage ", zero, ", ", v1::TrainingSpec::Precision_Name(precision)));
        ExpectPredicted({.data = 2, .zero = zero}, placed, precision);
      }
    }
    SCOPED_TRACE(absl::StrCat(placed.name, ", pipeline 2 x data 2 x tensor 2"));
    ExpectPredicted({.pipeline = 2, .data = 2, .zero = 1, .tensor = 2}, placed, v1::TrainingSpec::PRECISION_FP32);
  }
}

}  // namespace
}  // namespace penstock
