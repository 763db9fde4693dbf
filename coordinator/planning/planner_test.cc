#include "coordinator/planning/planner.h"

#include <string>

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
  EXPECT_THAT(*planned, HasSubstr("planned: pipeline "));
  EXPECT_EQ(spec.parallel().plan(), v1::ParallelSpec::PLAN_UNSPECIFIED);
  EXPECT_TRUE(spec.parallel().has_pipeline());
  EXPECT_TRUE(CheckJob(spec).empty());
  const std::string before = spec.SerializeAsString();
  EXPECT_EQ(*planner.Resolve(Cluster(4), &spec), "");
  EXPECT_EQ(spec.SerializeAsString(), before);
  // More than are registered: for the scheduler to refuse, or to wait for.
  spec.mutable_parallel()->set_data(16);
  EXPECT_EQ(*planner.Resolve(Cluster(4), &spec), "");
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
