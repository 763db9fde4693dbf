#include "coordinator/planning/planner.h"

#include <string>
#include <vector>

#include "coordinator/planning/imagined_cluster.h"
#include "core/plan/job_rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

v1::MemberStatus Member(v1::MemberRole role, const std::string& id, const std::string& host) {
  v1::MemberStatus member;
  member.set_state("IDLE");
  member.mutable_info()->set_role(role);
  member.mutable_info()->set_id(id);
  member.mutable_info()->set_threads(1);
  member.mutable_info()->mutable_host()->set_id(host);
  member.mutable_info()->mutable_host()->set_cores(2);
  member.mutable_info()->mutable_host()->set_memory_bytes(uint64_t{8} << 30);
  if (role == v1::MEMBER_ROLE_WORKER) *member.mutable_info()->mutable_rates() = DefaultRates();
  return member;
}

Planner::Members Cluster(int workers) {
  Planner::Members members;
  for (int i = 0; i < workers; ++i) {
    members.push_back(Member(v1::MEMBER_ROLE_WORKER, "worker-" + std::to_string(i), i % 2 == 0 ? "east" : "west"));
  }
  members.push_back(Member(v1::MEMBER_ROLE_SHARD, "params-0", "east"));
  return members;
}

v1::JobSpec Job() {
  v1::JobSpec spec;
  spec.set_name("planned");
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(4);
  spec.mutable_model()->set_hidden(128);
  spec.mutable_model()->set_heads(4);
  spec.mutable_model()->set_seq_length(64);
  spec.mutable_model()->set_vocab_size(256);
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_training()->set_steps(10);
  spec.mutable_training()->set_global_batch_size(32);
  spec.mutable_training()->set_micro_batch_size(2);
  spec.mutable_parallel()->set_plan(v1::ParallelSpec::PLAN_AUTO);
  FillDefaults(&spec);
  return spec;
}

TEST(PlannerTest, MembersBecomeHostsAndWorkers) {
  std::vector<v1::MemberInfo> workers;
  for (const v1::MemberStatus& member : Cluster(3)) {
    if (member.info().role() == v1::MEMBER_ROLE_WORKER) workers.push_back(member.info());
  }
  v1::MemberInfo nameless;
  nameless.set_id("params-7");
  const ClusterProfile cluster = MakeCluster(workers, {nameless});
  ASSERT_EQ(cluster.hosts.size(), 3u);
  EXPECT_EQ(cluster.hosts[0].id, "east");
  EXPECT_EQ(cluster.hosts[0].cores, 2);
  EXPECT_EQ(cluster.workers[1].host, 1);
  EXPECT_EQ(cluster.workers[2].host, 0);
  // A member that says nothing of its host has one to itself, of which nothing is known.
  EXPECT_EQ(cluster.shard_hosts, (std::vector<int>{2}));
  EXPECT_EQ(cluster.hosts[2].memory_bytes, 0);
  EXPECT_GE(cluster.hosts[2].cores, 1);
}

TEST(PlannerTest, ResolvesAnOpenMeshAndLeavesAGivenOne) {
  const Planner planner;
  v1::JobSpec spec = Job();
  const auto planned = planner.Resolve(Cluster(4), &spec);
  ASSERT_TRUE(planned.ok()) << planned.status();
  ASSERT_EQ(planned->size(), 2u);
  EXPECT_THAT((*planned)[0], HasSubstr("planned: pipeline "));
  EXPECT_THAT((*planned)[1], HasSubstr("chosen: device cpu; placement service: "));
  EXPECT_EQ(spec.parallel().plan(), v1::ParallelSpec::PLAN_UNSPECIFIED);
  EXPECT_TRUE(spec.parallel().has_pipeline());
  EXPECT_TRUE(CheckJob(spec).empty());
  const std::string before = spec.SerializeAsString();
  EXPECT_TRUE(planner.Resolve(Cluster(4), &spec)->empty());
  EXPECT_EQ(spec.SerializeAsString(), before);
  // More than are registered: for the scheduler to refuse, or to wait for.
  spec.mutable_parallel()->set_data(16);
  EXPECT_TRUE(planner.Resolve(Cluster(4), &spec)->empty());
}

// All of one host's two GPUs, which have 80 GB each.
Planner::Members GpuCluster(int workers, int cpus = 0) {
  Planner::Members members = Cluster(workers + cpus);
  for (int i = cpus; i < workers + cpus; ++i) {
    v1::MemberInfo& info = *members[static_cast<size_t>(i)].mutable_info();
    info.set_device("cuda:" + std::to_string(i % 2));
    info.mutable_host()->set_id("gpu host");
    info.mutable_host()->set_memory_bytes(uint64_t{256} << 30);
    info.mutable_device_info()->set_memory_bytes(80'000'000'000);
    info.mutable_device_info()->set_nccl("2.28.9");
  }
  return members;
}

TEST(PlannerTest, OnGpusTheRanksUpdateAndTheServiceFollows) {
  const Planner planner;
  v1::JobSpec spec = Job();
  spec.mutable_parallel()->clear_plan();
  spec.mutable_parallel()->set_data(2);
  FillDefaults(&spec);
  v1::JobSpec resolved = spec;
  auto chosen = planner.Resolve(GpuCluster(2), &resolved);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  ASSERT_EQ(chosen->size(), 1u);
  EXPECT_THAT((*chosen)[0], HasSubstr("chosen: device cuda; placement local: "));
  EXPECT_EQ(resolved.parallel().device(), v1::ParallelSpec::DEVICE_CUDA);
  EXPECT_EQ(resolved.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_LOCAL);
  EXPECT_EQ(resolved.parallel().zero().mirror(), v1::ZeroSpec::MIRROR_ON);
  EXPECT_EQ(resolved.parallel().zero().mirror_lag(), 1u);
  EXPECT_TRUE(CheckJob(resolved).empty());

  // Before CPUs where there are enough, and not where there aren't.
  resolved = spec;
  ASSERT_TRUE(planner.Resolve(GpuCluster(2, /*cpus=*/3), &resolved).ok());
  EXPECT_EQ(resolved.parallel().device(), v1::ParallelSpec::DEVICE_CUDA);
  resolved = spec;
  resolved.mutable_parallel()->set_data(4);
  ASSERT_TRUE(planner.Resolve(GpuCluster(2, /*cpus=*/5), &resolved).ok());
  EXPECT_EQ(resolved.parallel().device(), v1::ParallelSpec::DEVICE_CPU);
  EXPECT_EQ(resolved.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_SERVICE);

  // What is given stays.
  resolved = spec;
  resolved.mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CPU);
  resolved.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
  FillDefaults(&resolved);
  chosen = planner.Resolve(GpuCluster(2, /*cpus=*/3), &resolved);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_TRUE(chosen->empty());
  EXPECT_EQ(resolved.parallel().device(), v1::ParallelSpec::DEVICE_CPU);
  EXPECT_EQ(resolved.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_LOCAL);
  resolved.mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CUDA);
  const auto refused = planner.Resolve(Cluster(2), &resolved);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("no registered worker has one"));
}

TEST(PlannerTest, TheGpusMemoryIsTheLimit) {
  const Planner planner;
  v1::JobSpec spec = Job();
  spec.mutable_parallel()->clear_plan();
  FillDefaults(&spec);
  const auto with_memory = [](double bytes, uint64_t host = uint64_t{256} << 30) {
    Planner::Members members = GpuCluster(1);
    members[0].mutable_info()->mutable_device_info()->set_memory_bytes(static_cast<uint64_t>(bytes));
    members[0].mutable_info()->mutable_host()->set_memory_bytes(host);
    return members;
  };
  v1::PlanRequest request;
  *request.mutable_spec() = spec;
  const auto roomy = planner.Plan(request, with_memory(80e9));
  ASSERT_TRUE(roomy.ok()) << roomy.status();
  const v1::RankPlanBytes& rank = roomy->plan.ranks(0);
  // The process's own is taken off, and the mirror's slot and what goes to the shards are the host's.
  EXPECT_NEAR(static_cast<double>(rank.available_bytes()), 78e9, 1e8);
  EXPECT_GT(rank.host_bytes(), 4u * 800'000);

  // With the optimizer's state it would be too much.
  const double process = 80e9 - static_cast<double>(rank.available_bytes());
  const double too_little = process + static_cast<double>(rank.total_bytes()) - 1000;
  const auto offloaded = planner.Plan(request, with_memory(too_little));
  ASSERT_TRUE(offloaded.ok()) << offloaded.status();
  EXPECT_EQ(offloaded->spec.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_LOCAL);
  EXPECT_EQ(offloaded->spec.parallel().zero().offload(), v1::ZeroSpec::OFFLOAD_HOST);
  EXPECT_TRUE(CheckJob(offloaded->spec).empty());
  EXPECT_THAT(offloaded->placement_reason, HasSubstr("doesn't fit the GPUs, but their hosts"));
  EXPECT_LT(offloaded->plan.ranks(0).total_bytes(), rank.total_bytes());
  EXPECT_GT(offloaded->plan.ranks(0).host_bytes(), rank.host_bytes());
  // The host has to have room, too: of 0.8 million elements the state is some 10 MB, with what goes both ways 20.
  constexpr uint64_t kSmallHost = 10'000'000;
  const auto tight = planner.Plan(request, with_memory(too_little, kSmallHost));
  ASSERT_TRUE(tight.ok()) << tight.status();
  EXPECT_EQ(tight->spec.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_SERVICE);
  EXPECT_THAT(tight->placement_reason, HasSubstr("fits neither"));
  EXPECT_LT(tight->plan.ranks(0).total_bytes(), rank.total_bytes());
  // Who asks for it is told what would fit.
  *request.mutable_spec() = roomy->spec;
  auto refused = planner.Plan(request, with_memory(too_little));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("of its GPU's memory on stage 0"));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("parallel.zero.offload: host would fit"));
  refused = planner.Plan(request, with_memory(too_little, kSmallHost));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("parallel.zero.placement: service would fit"));
  // The host's memory counts as well.
  refused = planner.Plan(request, with_memory(80e9, /*host=*/1'000'000));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("of its machine's memory on stage 0"));

  // Two workers on one GPU share it.
  Planner::Members shared = GpuCluster(2);
  for (int i = 0; i < 2; ++i) shared[static_cast<size_t>(i)].mutable_info()->set_device("cuda:0");
  *request.mutable_spec() = spec;
  request.mutable_spec()->mutable_parallel()->set_data(2);
  const auto both = planner.Plan(request, shared);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_NEAR(static_cast<double>(both->plan.ranks(1).available_bytes()), 38e9, 1e8);
  // Two that call theirs the same, as they are shown one each, don't; but NCCL has its buffers then.
  shared[0].mutable_info()->mutable_device_info()->set_uuid("GPU-0");
  shared[1].mutable_info()->mutable_device_info()->set_uuid("GPU-1");
  const auto apart = planner.Plan(request, shared);
  ASSERT_TRUE(apart.ok()) << apart.status();
  const auto alone = static_cast<double>(rank.available_bytes());
  EXPECT_NEAR(static_cast<double>(apart->plan.ranks(1).available_bytes()), alone - 154e6, 1e6);
}

TEST(PlannerTest, LostWorkersDontCount) {
  const Planner planner;
  Planner::Members members = Cluster(2);
  for (v1::MemberStatus& member : members) member.set_state("LOST");
  v1::JobSpec spec = Job();
  EXPECT_EQ(planner.Resolve(members, &spec).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(PlannerTest, AJobThatDoesNotFitIsRefusedWhateverItsMesh) {
  const Planner planner;
  Planner::Members members = Cluster(2);
  for (v1::MemberStatus& member : members) member.mutable_info()->mutable_host()->set_memory_bytes(1 << 20);
  v1::JobSpec open = Job();
  EXPECT_EQ(planner.Resolve(members, &open).status().code(), absl::StatusCode::kResourceExhausted);
  v1::JobSpec given = Job();
  given.mutable_parallel()->clear_plan();
  FillDefaults(&given);
  const auto refused = planner.Resolve(members, &given);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("worker-0 has 0.9 MB for it"));
}

TEST(PlannerTest, PlansForAClusterThatIsNotThere) {
  const Planner planner;
  v1::PlanRequest request;
  *request.mutable_spec() = Job();
  request.mutable_spec()->mutable_parallel()->clear_plan();
  request.mutable_spec()->mutable_parallel()->set_data(8);
  FillDefaults(request.mutable_spec());
  EXPECT_EQ(planner.Plan(request, Cluster(2)).status().code(), absl::StatusCode::kResourceExhausted);
  request.set_workers(8);
  const auto found = planner.Plan(request, Cluster(2));
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->plan.ranks_size(), 8);
  EXPECT_EQ(found->plan.ranks(7).worker_id(), "worker-7");
  // On one host they share its cores; on eight they don't.
  request.set_workers_per_host(8);
  const auto crowded = planner.Plan(request, Cluster(2));
  EXPECT_GT(crowded->plan.step_seconds(), 2 * found->plan.step_seconds());
  // A larger host gives each what it needs; more threads are faster still.
  request.set_host_cores(64);
  const auto roomy = planner.Plan(request, Cluster(2));
  EXPECT_LT(roomy->plan.step_seconds(), crowded->plan.step_seconds() / 2);
  request.set_worker_threads(8);
  EXPECT_LT(planner.Plan(request, Cluster(2))->plan.step_seconds(), roomy->plan.step_seconds());
  request.set_host_memory_bytes(uint64_t{80} << 30);
  EXPECT_EQ(planner.Plan(request, Cluster(2))->plan.ranks(0).available_bytes(), uint64_t{9} << 30);
}

TEST(PlannerTest, WhatCannotBeImaginedIsRefused) {
  const Planner planner;
  v1::PlanRequest request;
  *request.mutable_spec() = Job();
  request.set_shards(2);
  EXPECT_EQ(planner.Plan(request, Cluster(2)).status().code(), absl::StatusCode::kInvalidArgument);
  request.set_workers(4);
  EXPECT_TRUE(planner.Plan(request, Cluster(2)).ok());
  EXPECT_EQ(planner.Plan(request, Cluster(0)).status().code(), absl::StatusCode::kFailedPrecondition);
  request.set_shards(kImaginedMembersMax + 1);
  EXPECT_EQ(planner.Plan(request, Cluster(2)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlannerTest, ImaginedShardsAreSpreadOverHosts) {
  v1::PlanRequest request;
  request.set_workers(4);
  request.set_workers_per_host(2);
  request.set_shards(3);
  const Planner::Members members = Cluster(1);
  const auto imagined = Imagine(request, {{members[0].info()}, {members[1].info()}});
  ASSERT_TRUE(imagined.ok()) << imagined.status();
  const ClusterProfile cluster = MakeCluster(imagined->workers, imagined->shards);
  EXPECT_EQ(cluster.hosts.size(), 2u);
  EXPECT_EQ(cluster.shard_hosts, (std::vector<int>{0, 1, 0}));
}

TEST(PlannerTest, LearnsFromSteps) {
  Planner planner;
  v1::JobSpec spec = Job();
  spec.mutable_parallel()->clear_plan();
  FillDefaults(&spec);
  const std::vector<v1::MemberInfo> workers = {Cluster(1)[0].info()};
  const std::vector<v1::MemberInfo> shards = {Cluster(1)[1].info()};
  const auto before = planner.PredictJob(spec, workers, shards);
  ASSERT_TRUE(before.has_value());
  const double step = before->plan.step_seconds();
  planner.Learn(spec, *before, {2 * step, 2 * before->leader_compute_seconds});
  const auto after = planner.PredictJob(spec, workers, shards);
  EXPECT_NEAR(after->plan.step_seconds(), 2 * step, 0.2 * step);
  EXPECT_NEAR(after->leader_compute_seconds, 2 * before->leader_compute_seconds, 1e-9);
  // Another model begins with what was learnt last; this one keeps its own.
  v1::JobSpec other = spec;
  other.mutable_model()->set_layers(8);
  const auto second = planner.PredictJob(other, workers, shards);
  planner.Learn(other, *second, {second->plan.step_seconds() / 2, second->leader_compute_seconds / 2});
  EXPECT_NEAR(planner.PredictJob(spec, workers, shards)->leader_compute_seconds, 2 * before->leader_compute_seconds,
              1e-9);
}

TEST(PlannerTest, SaysNothingOfWorkersThatNobodyMeasured) {
  const Planner planner;
  v1::JobSpec spec = Job();
  spec.mutable_parallel()->clear_plan();
  FillDefaults(&spec);
  v1::MemberInfo unknown = Cluster(1)[0].info();
  unknown.clear_rates();
  EXPECT_FALSE(planner.PredictJob(spec, {unknown}, {}).has_value());
  EXPECT_FALSE(planner.PredictJob(spec, {}, {}).has_value());
}

}  // namespace
}  // namespace penstock
