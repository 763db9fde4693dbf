// The bytes that core/plan says a step sends between ranks, against what the communicators count. (To the parameter
// service and back: service_traffic_test.cc.)
#include "core/plan/traffic_model.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "core/plan/partition.h"
#include "services/telemetry/metrics.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

struct Case {
  int pipeline, data, zero;
  bool local;
  bool bf16 = false;
};

v1::JobSpec MakeSpec(const Case& placed, int steps) {
  v1::JobSpec spec =
      MakeTinyJob({.pipeline = placed.pipeline, .data = placed.data, .zero = placed.zero, .steps = steps});
  spec.mutable_model()->set_hidden(64);
  spec.mutable_model()->clear_mlp_hidden();
  if (placed.bf16) spec.mutable_training()->set_precision(v1::TrainingSpec::PRECISION_BF16);
  if (placed.local) spec.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
  FillDefaults(&spec);
  return spec;
}

// Of all ranks together, the first pull included.
int64_t BytesSent(const v1::JobSpec& spec) {
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  Metrics metrics("worker");
  WorkerMetrics worker_metrics(metrics);
  TestEpoch epoch({.spec = spec, .service = service, .log = &log, .metrics = &worker_metrics});
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  return static_cast<int64_t>(CounterIn(metrics, "penstock_worker_comm_bytes_total{direction=\"sent\"}"));
}

TEST(TrafficModelTest, CountsTheBytesOfAStep) {
  for (const Case& placed : {Case{1, 2, 0, false},
                             {1, 2, 1, false},
                             {1, 3, 2, false},
                             {2, 2, 1, false},
                             {2, 2, 2, false},
                             {1, 1, 1, true},
                             {1, 3, 1, true},
                             {2, 2, 0, true},
                             {3, 2, 2, true},
                             {2, 2, 1, false, true},
                             {2, 2, 0, true, true},
                             {2, 3, 2, true, true}}) {
    SCOPED_TRACE(absl::StrCat("pipeline ", placed.pipeline, ", data ", placed.data, ", zero ", placed.zero,
                              placed.local ? ", local" : ", service", placed.bf16 ? ", bf16" : ""));
    const v1::JobSpec spec = MakeSpec(placed, 3);
    const Mesh mesh = MeshOf(spec).value();
    const ParameterTable table = ParameterTable::Create(spec.model()).value();
    const auto ranks = TrafficOfRanks(spec, table, PartitionStages(table, mesh.pipeline()).value(), mesh, 2);
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    int64_t expected = 0;
    for (const RankTraffic& rank : *ranks) expected += rank.between_ranks();
    // What doesn't depend on the placement: activations and their gradients, and the losses on their way to the leader.
    const int64_t micro_batches = MicroBatches(spec);
    const int64_t boundary = BytesOf(ComputeType(spec)) * spec.training().micro_batch_size() *
                             table.blocks()[0].boundary_elements_per_sample;
    expected += 2 * placed.data * (placed.pipeline - 1) * micro_batches * boundary;
    expected += (placed.data - 1) * micro_batches * static_cast<int64_t>(sizeof(MicroBatchLoss));
    EXPECT_EQ(BytesSent(MakeSpec(placed, 3)) - BytesSent(MakeSpec(placed, 2)), expected);
  }
}

}  // namespace
}  // namespace penstock
