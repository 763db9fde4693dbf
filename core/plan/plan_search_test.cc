#include "core/plan/plan_search.h"

#include <algorithm>
#include <string>

#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Rates that don't depend on the width: a thousandth of a second for every 1e7 FLOPs.
v1::WorkerRates FlatRates(double flops) {
  v1::WorkerRates rates;
  v1::ComputeRates::LayerRate& layer = *rates.mutable_fp32()->add_layers();
  layer.set_hidden(256);
  layer.set_forward_flops_per_second(flops);
  layer.set_backward_flops_per_second(flops);
  layer.set_attention_forward_flops_per_second(flops);
  layer.set_attention_backward_flops_per_second(flops);
  rates.mutable_fp32()->set_head_flops_per_second(flops);
  rates.set_memory_bytes_per_second(1e10);
  return rates;
}

struct Machine {
  int workers = 1;
  double cores = 1;
  int64_t memory_bytes = int64_t{1} << 40;
};

ClusterProfile MakeMachines(const std::vector<Machine>& machines, double flops = 1e10) {
  ClusterProfile cluster;
  for (const Machine& machine : machines) {
    const int host = static_cast<int>(cluster.hosts.size());
    cluster.hosts.push_back({"host-" + std::to_string(host), machine.cores, machine.memory_bytes});
    for (int i = 0; i < machine.workers; ++i) {
      ClusterWorker worker;
      worker.id = "worker-" + std::to_string(cluster.workers.size());
      worker.host = host;
      worker.rates = FlatRates(flops);
      cluster.workers.push_back(std::move(worker));
    }
  }
  // Shards on a machine of their own, so that they share nobody's cores.
  cluster.shard_hosts = {static_cast<int>(cluster.hosts.size())};
  cluster.hosts.push_back({"shards", 64, int64_t{1} << 40});
  return cluster;
}

v1::JobSpec Auto(uint32_t layers, uint32_t hidden, uint32_t seq_length, uint32_t batch, uint32_t micro_batch) {
  v1::JobSpec spec;
  spec.set_name("planned");
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(layers);
  spec.mutable_model()->set_hidden(hidden);
  spec.mutable_model()->set_heads(4);
  spec.mutable_model()->set_seq_length(seq_length);
  spec.mutable_model()->set_vocab_size(256);
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_training()->set_steps(10);
  spec.mutable_training()->set_global_batch_size(batch);
  spec.mutable_training()->set_micro_batch_size(micro_batch);
  spec.mutable_parallel()->set_plan(v1::ParallelSpec::PLAN_AUTO);
  FillDefaults(&spec);
  return spec;
}

std::string MeshOfPlan(const v1::MeshPlan& plan) {
  return std::to_string(plan.mesh().pipeline()) + "x" + std::to_string(plan.mesh().data()) + "x" +
         std::to_string(plan.mesh().tensor());
}

TEST(PlanSearchTest, ALittleModelWithMuchDataIsReplicated) {
  // 4 machines, 50 ms of work for each sample, 0.4 MB of weights: replicas are nearly perfect, a pipeline has a bubble.
  const ClusterProfile cluster = MakeMachines({{}, {}, {}, {}}, 1e9);
  const auto found = SearchPlan(Auto(2, 64, 256, 64, 4), cluster, 0);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(MeshOfPlan(found->plan), "1x4x1") << found->plan.DebugString();
  EXPECT_EQ(found->spec.parallel().plan(), v1::ParallelSpec::PLAN_UNSPECIFIED);
  EXPECT_TRUE(CheckJob(found->spec).empty());
  EXPECT_THAT(found->plan.reason(), HasSubstr("4 replicas"));
}

TEST(PlanSearchTest, AModelThatIsTooLargeForOneWorkerIsCutIntoStages) {
  // Weights and gradients of 12 layers of 512: 2 x 151 MB. A machine has 150: two can't hold them, four can.
  const ClusterProfile cluster = MakeMachines({{.memory_bytes = 150'000'000},
                                               {.memory_bytes = 150'000'000},
                                               {.memory_bytes = 150'000'000},
                                               {.memory_bytes = 150'000'000}});
  const auto found = SearchPlan(Auto(12, 512, 32, 16, 1), cluster, 8);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->plan.mesh().pipeline() * found->plan.mesh().tensor(), 4u) << found->plan.DebugString();
  for (const v1::RankPlanBytes& rank : found->plan.ranks()) EXPECT_LE(rank.total_bytes(), rank.available_bytes());
}

TEST(PlanSearchTest, OneHeavyExchangeKeepsTheJobOnOneWorker) {
  // One sample of two tokens on 100 MB of weights: whatever is split must be exchanged, and nothing is gained.
  const ClusterProfile cluster = MakeMachines({{}, {}}, 1e13);
  const auto found = SearchPlan(Auto(2, 1024, 2, 2, 1), cluster, 8);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->plan.mesh().data(), 1u) << found->plan.DebugString();
  for (const v1::MeshPlan& other : found->alternatives) {
    EXPECT_GT(other.step_seconds() * 1.03, found->plan.step_seconds());
  }
}

TEST(PlanSearchTest, WorkersThatShareACoreAreNoGain) {
  // Four workers, one core: the work takes as long however it is cut, so the simplest mesh is taken.
  const auto found = SearchPlan(Auto(4, 128, 64, 16, 4), MakeMachines({{.workers = 4, .cores = 1}}), 8);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(MeshOfPlan(found->plan), "1x1x1") << found->plan.DebugString();
  ASSERT_FALSE(found->alternatives.empty());
  EXPECT_THAT(found->alternatives.back().reason(), HasSubstr("share 1 core"));
}

TEST(PlanSearchTest, TheSameClusterGivesTheSamePlan) {
  const ClusterProfile cluster = MakeMachines({{.workers = 2, .cores = 2}, {.workers = 2, .cores = 2}});
  const v1::JobSpec spec = Auto(6, 128, 64, 24, 2);
  const auto first = SearchPlan(spec, cluster, 5);
  ASSERT_TRUE(first.ok()) << first.status();
  for (int i = 0; i < 3; ++i) {
    const auto again = SearchPlan(spec, cluster, 5);
    EXPECT_EQ(again->plan.SerializeAsString(), first->plan.SerializeAsString());
    ASSERT_EQ(again->alternatives.size(), first->alternatives.size());
  }
}

TEST(PlanSearchTest, WhatIsGivenIsKept) {
  const ClusterProfile cluster = MakeMachines({{}, {}, {}, {}}, 1e9);
  v1::JobSpec spec = Auto(4, 64, 64, 64, 4);
  spec.mutable_parallel()->set_pipeline(2);
  spec.mutable_parallel()->set_schedule(v1::ParallelSpec::SCHEDULE_GPIPE);
  auto found = SearchPlan(spec, cluster, 0);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->spec.parallel().pipeline(), 2u);
  EXPECT_EQ(found->spec.parallel().schedule(), v1::ParallelSpec::SCHEDULE_GPIPE);
  EXPECT_EQ(found->spec.training().micro_batch_size(), 4u);
  // An open micro-batch is chosen, and divides the batch.
  spec = Auto(4, 64, 64, 48, 0);
  found = SearchPlan(spec, cluster, 0);
  ASSERT_TRUE(found.ok()) << found.status();
  const uint32_t unit = found->spec.training().micro_batch_size() * found->spec.parallel().data();
  ASSERT_GT(unit, 0u);
  EXPECT_EQ(48 % unit, 0u);
  // A job with a mesh of its own stays as it is, with others to compare.
  spec = Auto(4, 64, 64, 64, 4);
  spec.mutable_parallel()->clear_plan();
  spec.mutable_parallel()->set_pipeline(4);
  FillDefaults(&spec);
  found = SearchPlan(spec, cluster, 3);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(MeshOfPlan(found->plan), "4x1x1");
  EXPECT_EQ(found->alternatives.size(), 3u);
  EXPECT_LT(found->alternatives[0].step_seconds(), found->plan.step_seconds());
}

TEST(PlanSearchTest, WhatDoesNotFitIsRefusedWithTheSmallestChange) {
  // Activations alone: 8 samples don't fit, 4 or 2 do.
  v1::JobSpec spec = Auto(4, 256, 512, 8, 8);
  spec.mutable_parallel()->clear_plan();
  FillDefaults(&spec);
  const ClusterProfile small = MakeMachines({{.memory_bytes = 200'000'000}});
  auto refused = SearchPlan(spec, small, 0);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(refused.status().message());
  EXPECT_THAT(message, HasSubstr("on stage 0 (pipeline 1 x data 1 x tensor 1), and worker-0 has 0.2 GB for it; "));
  EXPECT_THAT(message, HasSubstr("training.micro_batch_size"));
  const size_t at = message.rfind("micro_batch_size ") + std::string("micro_batch_size ").size();
  spec.mutable_training()->set_micro_batch_size(static_cast<uint32_t>(std::stoi(message.substr(at))));
  EXPECT_TRUE(SearchPlan(spec, small, 0).ok());
  spec.mutable_training()->set_micro_batch_size(2 * spec.training().micro_batch_size());
  EXPECT_FALSE(SearchPlan(spec, small, 0).ok());

  // Weights that no micro-batch makes smaller: more workers would.
  spec = Auto(8, 512, 16, 4, 1);
  refused = SearchPlan(spec, MakeMachines({{.memory_bytes = 120'000'000}}), 0);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("one more worker on a machine like worker-0's would do"));
  // And where nothing would, it says so.
  refused = SearchPlan(Auto(2, 4096, 16, 4, 1), MakeMachines({{.memory_bytes = 10'000'000}}), 0);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("a smaller model.hidden"));
}

TEST(PlanSearchTest, NoWorkersAndTooFewAreSaid) {
  EXPECT_EQ(SearchPlan(Auto(2, 64, 16, 4, 1), ClusterProfile{}, 0).status().code(),
            absl::StatusCode::kFailedPrecondition);
  v1::JobSpec spec = Auto(2, 64, 16, 4, 1);
  spec.mutable_parallel()->clear_plan();
  spec.mutable_parallel()->set_data(4);
  FillDefaults(&spec);
  const auto refused = SearchPlan(spec, MakeMachines({{}, {}}), 0);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("wants 4 workers, but 2 are registered"));
}

TEST(PredictionTest, BytesStagesAndTimesAreThere) {
  v1::JobSpec spec = Auto(4, 64, 32, 16, 2);
  spec.mutable_parallel()->clear_plan();
  spec.mutable_parallel()->set_pipeline(2);
  FillDefaults(&spec);
  const auto prediction = Predict(spec, MakeMachines({{}, {}}), {0, 1});
  ASSERT_TRUE(prediction.ok()) << prediction.status();
  const v1::MeshPlan& plan = prediction->plan;
  EXPECT_EQ(plan.micro_batches(), 8u);
  ASSERT_EQ(plan.stages_size(), 2);
  EXPECT_EQ(plan.stages(0).layers() + plan.stages(1).layers(), 4u);
  EXPECT_EQ(plan.stages(0).blocks(0), "embedding");
  EXPECT_EQ(plan.stages(1).blocks(plan.stages(1).blocks_size() - 1), "head");
  ASSERT_EQ(plan.ranks_size(), 2);
  uint64_t sum = 0;
  for (const auto& each : plan.ranks(1).classes()) sum += each.bytes();
  EXPECT_EQ(sum, plan.ranks(1).total_bytes());
  EXPECT_GT(plan.bubble_ratio(), 0.05);
  EXPECT_LT(plan.bubble_ratio(), 0.5);
  EXPECT_GT(plan.tokens_per_second(), 0);
  EXPECT_GT(prediction->leader_compute_seconds, 0);
  EXPECT_LT(prediction->leader_compute_seconds + prediction->leader_exchange_seconds, plan.step_seconds() * 1.0001);
}

TEST(PredictionTest, ManyMicroBatchesAreExtrapolated) {
  const auto step_seconds = [](uint32_t batch) {
    v1::JobSpec spec = Auto(4, 64, 32, batch, 1);
    spec.mutable_parallel()->clear_plan();
    spec.mutable_parallel()->set_pipeline(4);
    FillDefaults(&spec);
    const auto prediction = Predict(spec, MakeMachines({{}, {}, {}, {}}), {0, 1, 2, 3});
    EXPECT_TRUE(prediction.ok()) << prediction.status();
    return prediction->plan.step_seconds();
  };
  // In the steady state every micro-batch more takes as long as another.
  const double each =
      (step_seconds(kSimulatedCellsMax / 4) - step_seconds(kSimulatedCellsMax / 8)) / (kSimulatedCellsMax / 8);
  EXPECT_NEAR(step_seconds(4 * kSimulatedCellsMax),
              step_seconds(kSimulatedCellsMax / 4) + each * (4 * kSimulatedCellsMax - kSimulatedCellsMax / 4),
              1e-6 * step_seconds(4 * kSimulatedCellsMax));
}

TEST(PredictionTest, CorrectionsScaleWhatTheyAreOf) {
  v1::JobSpec spec = Auto(4, 256, 64, 16, 2);
  spec.mutable_parallel()->clear_plan();
  FillDefaults(&spec);
  ClusterProfile cluster = MakeMachines({{}});
  const auto plain = Predict(spec, cluster, {0});
  cluster.correction = {2, 3};
  const auto corrected = Predict(spec, cluster, {0});
  EXPECT_NEAR(corrected->leader_compute_seconds, 2 * plain->leader_compute_seconds, 1e-9);
  EXPECT_NEAR(corrected->leader_exchange_seconds, 3 * plain->leader_exchange_seconds, 1e-9);
}

TEST(CostModelTest, Bf16ComputesAtItsOwnRateAndSendsHalf) {
  v1::JobSpec spec = Auto(4, 256, 64, 8, 1);
  *spec.mutable_parallel() = v1::ParallelSpec();
  spec.mutable_parallel()->set_pipeline(1);
  spec.mutable_parallel()->set_data(2);
  spec.mutable_parallel()->set_tensor(1);
  spec.mutable_parallel()->mutable_zero()->set_stage(1);
  ClusterProfile cluster = MakeMachines({{2, 2}});
  const auto fp32 = Predict(spec, cluster, {0, 1});
  ASSERT_TRUE(fp32.ok()) << fp32.status();
  spec.mutable_training()->set_precision(v1::TrainingSpec::PRECISION_BF16);
  // Nobody has measured it.
  const auto unmeasured = Predict(spec, cluster, {0, 1});
  EXPECT_DOUBLE_EQ(unmeasured->leader_compute_seconds, fp32->leader_compute_seconds);
  EXPECT_DOUBLE_EQ(unmeasured->costs.data_bytes, 0.75 * fp32->costs.data_bytes);
  EXPECT_LT(unmeasured->costs.service_seconds, fp32->costs.service_seconds);
  for (ClusterWorker& worker : cluster.workers) *worker.rates.mutable_bf16() = FlatRates(2e10).fp32();
  const auto bf16 = Predict(spec, cluster, {0, 1});
  EXPECT_LT(bf16->leader_compute_seconds, 0.6 * fp32->leader_compute_seconds);
}

// A job of two replicas whose ranks update.
v1::JobSpec Local(uint32_t hidden, uint32_t batch, v1::ZeroSpec::Mirror mirror) {
  v1::JobSpec spec = Auto(4, hidden, 32, batch, 2);
  spec.mutable_parallel()->clear_plan();
  spec.mutable_parallel()->set_data(2);
  spec.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
  spec.mutable_parallel()->mutable_zero()->set_mirror(mirror);
  FillDefaults(&spec);
  return spec;
}

TEST(CostModelTest, AMirrorThatFollowsCostsACopyWhereItHasCoresOfItsOwn) {
  // 3 MB of weights and a second of passes; shards on a machine of their own, and a core more than ranks.
  const ClusterProfile cluster = MakeMachines({{.workers = 2, .cores = 3}}, 1e9);
  const auto off = Predict(Local(128, 64, v1::ZeroSpec::MIRROR_OFF), cluster, {0, 1});
  const auto on = Predict(Local(128, 64, v1::ZeroSpec::MIRROR_ON), cluster, {0, 1});
  ASSERT_TRUE(off.ok() && on.ok());
  EXPECT_FALSE(off->costs.mirror.has_value());
  ASSERT_TRUE(on->costs.mirror.has_value());
  EXPECT_LT(on->costs.mirror->forward_seconds, 0.5 * on->plan.step_seconds());
  // 0.4 million elements of each rank's, 8 bytes of each at 1e10 a second, a quarter slower for the other one's.
  const double copy = on->plan.step_seconds() - off->plan.step_seconds();
  EXPECT_NEAR(copy, 1.25 * 8 * 0.42e6 / 1e10, 5e-5);
}

TEST(CostModelTest, AMirrorTakesCoresFromRanksThatShareThem) {
  // Two ranks and both shards on two cores: what the mirror's processor time is, the step gets longer by.
  ClusterProfile cluster = MakeMachines({{.workers = 2, .cores = 2}}, 1e9);
  cluster.shard_hosts = {0, 0};
  const auto off = Predict(Local(128, 64, v1::ZeroSpec::MIRROR_OFF), cluster, {0, 1});
  const auto on = Predict(Local(128, 64, v1::ZeroSpec::MIRROR_ON), cluster, {0, 1});
  ASSERT_TRUE(off.ok() && on.ok());
  double core_seconds = 0;
  for (const HostLoad& load : on->costs.mirror->loads) core_seconds += load.cores * on->costs.mirror->forward_seconds;
  EXPECT_GT(core_seconds, 1e-3);
  EXPECT_NEAR(on->plan.step_seconds() - off->plan.step_seconds(), core_seconds / 2, 0.2 * core_seconds);
}

TEST(CostModelTest, NoStepIsFasterThanItsMirror) {
  // 200 MB of weights and hardly any passes: the ranks wait for the service, whatever the lag.
  const ClusterProfile cluster = MakeMachines({{.workers = 2, .cores = 8}}, 1e13);
  v1::JobSpec spec = Local(1024, 4, v1::ZeroSpec::MIRROR_ON);
  const auto one = Predict(spec, cluster, {0, 1});
  spec.mutable_parallel()->mutable_zero()->set_mirror_lag(4);
  const auto four = Predict(spec, cluster, {0, 1});
  ASSERT_TRUE(one.ok() && four.ok());
  EXPECT_DOUBLE_EQ(one->plan.step_seconds(), one->costs.mirror->forward_seconds);
  EXPECT_THAT(SearchPlan(spec, cluster, 0)->plan.reason(), HasSubstr("wait for the mirror"));
  EXPECT_DOUBLE_EQ(four->plan.step_seconds(), one->plan.step_seconds());
  // The wait is exchange: whoever learns from such a step finds it as predicted.
  EXPECT_NEAR(one->leader_compute_seconds + one->leader_exchange_seconds, one->plan.step_seconds(), 1e-9);
  // A second shard takes half of it.
  ClusterProfile more = cluster;
  more.shard_hosts.push_back(more.shard_hosts[0]);
  const auto faster = Predict(spec, more, {0, 1});
  EXPECT_LT(faster->costs.mirror->forward_seconds, 0.6 * one->costs.mirror->forward_seconds);
  EXPECT_GT(faster->plan.step_seconds(), faster->costs.mirror->forward_seconds);
}

TEST(CostModelTest, AMirrorCountsOnceWhereMicroBatchesAreExtrapolated) {
  const ClusterProfile cluster = MakeMachines({{.workers = 2, .cores = 8}}, 1e15);
  const auto few = Predict(Local(1024, 4, v1::ZeroSpec::MIRROR_ON), cluster, {0, 1});
  const auto many = Predict(Local(1024, 8 * kSimulatedCellsMax, v1::ZeroSpec::MIRROR_ON), cluster, {0, 1});
  const auto alone = Predict(Local(1024, 8 * kSimulatedCellsMax, v1::ZeroSpec::MIRROR_OFF), cluster, {0, 1});
  ASSERT_TRUE(few.ok() && many.ok() && alone.ok());
  const double replay = few->costs.mirror->forward_seconds;
  EXPECT_NEAR(many->plan.step_seconds(), std::max(replay, alone->plan.step_seconds()), 0.1 * replay);
}

TEST(CostModelTest, RatesAreInterpolatedBetweenWidths) {
  v1::ComputeRates rates;
  for (const auto& [hidden, flops] : {std::pair<uint32_t, double>{64, 1e10}, {256, 4e10}}) {
    rates.add_layers()->set_hidden(hidden);
    rates.mutable_layers(rates.layers_size() - 1)->set_forward_flops_per_second(flops);
  }
  const auto at = [&](double hidden) {
    return RateAt(rates, hidden, &v1::ComputeRates::LayerRate::forward_flops_per_second);
  };
  EXPECT_DOUBLE_EQ(at(1), 1e10);
  EXPECT_DOUBLE_EQ(at(64), 1e10);
  EXPECT_NEAR(at(128), 2e10, 1);
  EXPECT_DOUBLE_EQ(at(10000), 4e10);
}

TEST(CostModelTest, TensorDividesWhatIsSplit) {
  const v1::JobSpec spec = Auto(2, 64, 16, 4, 1);
  const ParameterTable table = *ParameterTable::Create(spec.model());
  const BlockRange all = {0, static_cast<int>(table.blocks().size())};
  EXPECT_EQ(ElementsOfRank(table, all, 1), static_cast<double>(table.size()));
  double split = 0;
  for (const Parameter& parameter : table.parameters()) {
    if (parameter.split == SplitAxis::kSplit) split += static_cast<double>(parameter.size());
  }
  EXPECT_DOUBLE_EQ(ElementsOfRank(table, all, 2), static_cast<double>(table.size()) - split / 2);
  // The tied parameter counts on both ends of a pipeline.
  const BlockRange front = {0, 2};
  const BlockRange back = {2, all.end};
  EXPECT_DOUBLE_EQ(ElementsOfRank(table, front, 1) + ElementsOfRank(table, back, 1),
                   static_cast<double>(table.size() + table.tied()->size()));
}

}  // namespace
}  // namespace penstock
