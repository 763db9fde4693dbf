// The planner's bytes against the worker's own plan.
#include "core/plan/memory_model.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "core/plan/partition.h"
#include "core/plan/traffic_model.h"
#include "gtest/gtest.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/gradient_norm.h"
#include "worker/runtime/local_optimizer.h"
#include "worker/runtime/mirror.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_exchange.h"

namespace penstock {
namespace {

struct Job {
  uint32_t pipeline = 1;
  uint32_t data = 1;
  uint32_t zero = 1;
  v1::ParallelSpec::Schedule schedule = v1::ParallelSpec::SCHEDULE_1F1B;
  uint32_t micro_batch = 2;
  uint32_t vocab = 256;
  uint32_t tensor = 1;
  bool local = false;
  uint32_t mirror_lag = 0;  // 0: no mirror
  v1::TrainingSpec::Precision precision = v1::TrainingSpec::PRECISION_FP32;
  bool gpu = false;
  bool offload = false;
};

v1::JobSpec Spec(const Job& job) {
  v1::JobSpec spec;
  spec.set_name("bytes");
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(5);
  spec.mutable_model()->set_hidden(96);
  spec.mutable_model()->set_heads(4);
  spec.mutable_model()->set_seq_length(48);
  spec.mutable_model()->set_vocab_size(job.vocab);
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_training()->set_steps(3);
  spec.mutable_training()->set_global_batch_size(24);
  spec.mutable_training()->set_micro_batch_size(job.micro_batch);
  spec.mutable_training()->set_precision(job.precision);
  v1::ParallelSpec* const parallel = spec.mutable_parallel();
  parallel->set_pipeline(job.pipeline);
  parallel->set_data(job.data);
  parallel->set_tensor(job.tensor);
  parallel->set_schedule(job.schedule);
  parallel->mutable_zero()->set_stage(job.zero);
  if (job.local) {
    v1::ZeroSpec* const zero = parallel->mutable_zero();
    zero->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
    zero->set_mirror(job.mirror_lag > 0 ? v1::ZeroSpec::MIRROR_ON : v1::ZeroSpec::MIRROR_OFF);
    if (job.mirror_lag > 0) zero->set_mirror_lag(job.mirror_lag);
    if (job.offload) zero->set_offload(v1::ZeroSpec::OFFLOAD_HOST);
  }
  if (job.gpu) parallel->set_device(v1::ParallelSpec::DEVICE_CUDA);
  FillDefaults(&spec);
  return spec;
}

struct WorkerMemory {
  MemoryPlan device;
  // Pinned, of a rank on a GPU, but for what goes to the service and comes from it.
  MemoryPlan host;
};

// What the worker would allocate.
WorkerMemory PlanOf(const v1::JobSpec& spec, int rank, int world) {
  v1::Assignment assignment;
  assignment.set_job_id("job");
  assignment.set_epoch(1);
  *assignment.mutable_spec() = spec;
  assignment.set_rank(static_cast<uint32_t>(rank));
  for (int peer = 0; peer < world; ++peer) assignment.add_peers()->set_rank(static_cast<uint32_t>(peer));
  assignment.add_shards("127.0.0.1:1");
  const RankPlan plan = MakeRankPlan(assignment).value();
  const auto validation = plan.Validation(plan.micro_batches).value();
  const auto backend = OnGpus(spec) ? CreateEmulatedDevice() : CreateCpuBackend({.threads = 1}).value();
  WorkerMemory both;
  MemoryPlan& memory = both.device;
  StageOptions options;
  options.blocks = plan.parameters.blocks;
  options.micro_batch_size = spec.training().micro_batch_size();
  options.slots = plan.slots;
  options.tensor = plan.parameters.tensor;
  options.bucketed = plan.bucketed();
  options.type = ComputeType(spec);
  const auto model = CreateStageModel(spec.model(), plan.table, options, backend.get(), &memory).value();
  StageExecutor executor(plan, validation);
  StateExchange exchange(plan);
  EXPECT_TRUE(executor.PlanMemory(*model, &memory).ok());
  MemoryPlan& sums = OffloadsGradients(spec) ? both.host : memory;
  exchange.PlanMemory(&sums);
  if (UpdatesLocally(spec)) {
    auto norm = GradientNorm::Create(plan).value();
    norm.PlanMemory(&sums);
    LocalOptimizer optimizer(plan);
    optimizer.PlanMemory(optimizer.offloaded() ? &both.host : &memory);
    Mirror::Options mirror;
    mirror.lag = static_cast<int>(spec.parallel().zero().mirror_lag());
    mirror.ranges = plan.updated();
    mirror.in_place = GradientSums(spec) > 1;
    if (!IsPublished(spec)) Mirror(std::move(mirror)).PlanMemory(backend->host_memory() ? &memory : &both.host);
  }
  return both;
}

TEST(MemoryModelTest, CountsTheWorkersBytes) {
  for (const Job& job :
       {Job{}, Job{.pipeline = 2}, Job{.pipeline = 4, .data = 2}, Job{.data = 3, .zero = 0},
        Job{.pipeline = 3, .data = 2, .zero = 0, .schedule = v1::ParallelSpec::SCHEDULE_GPIPE},
        Job{.pipeline = 2, .data = 4, .micro_batch = 1}, Job{.pipeline = 5, .micro_batch = 4, .vocab = 5003},
        Job{.pipeline = 2, .data = 2, .vocab = 257, .tensor = 2}, Job{.zero = 0, .vocab = 257, .tensor = 4},
        Job{.pipeline = 2, .data = 2, .zero = 2, .vocab = 257, .tensor = 2, .local = true, .mirror_lag = 1},
        Job{.data = 2, .zero = 2}, Job{.pipeline = 3, .data = 2, .zero = 2, .vocab = 5003}, Job{.local = true},
        Job{.pipeline = 2, .data = 2, .local = true, .mirror_lag = 2},
        Job{.pipeline = 3, .data = 3, .zero = 0, .micro_batch = 1, .local = true, .mirror_lag = 1},
        Job{.pipeline = 2, .data = 3, .zero = 2, .vocab = 5003, .local = true, .mirror_lag = 3},
        // More rows than the head takes at once.
        Job{.micro_batch = 24, .vocab = 999},
        Job{.pipeline = 2, .data = 2, .precision = v1::TrainingSpec::PRECISION_BF16},
        Job{.precision = v1::TrainingSpec::PRECISION_BF16},
        Job{.local = true, .precision = v1::TrainingSpec::PRECISION_BF16},
        Job{.pipeline = 2,
        .data = 3,
        .zero = 2,
        .local = true,
        .mirror_lag = 2,
        .precision = v1::TrainingSpec::PRECISION_BF16},
        Job{.pipeline = 2,
        .data = 2,
        .zero = 0,
        .vocab = 257,
        .tensor = 2,
        .local = true,
        .mirror_lag = 1,
        .precision = v1::TrainingSpec::PRECISION_BF16},
        Job{.pipeline = 2, .data = 2, .vocab = 257, .gpu = true},
        Job{.pipeline = 2, .data = 2, .tensor = 2, .local = true, .mirror_lag = 2, .gpu = true},
        Job{.data = 3,
        .zero = 2,
        .micro_batch = 8,
        .vocab = 5003,
        .local = true,
        .mirror_lag = 1,
        .precision = v1::TrainingSpec::PRECISION_BF16,
        .gpu = true},
        Job{.data = 2, .local = true, .mirror_lag = 1, .gpu = true, .offload = true},
        Job{.pipeline = 3, .data = 2, .zero = 2, .local = true, .mirror_lag = 1, .gpu = true, .offload = true},
        Job{.pipeline = 2,
        .data = 2,
        .zero = 2,
        .local = true,
        .precision = v1::TrainingSpec::PRECISION_BF16,
        .gpu = true,
        .offload = true}}) {
    const v1::JobSpec spec = Spec(job);
    ASSERT_TRUE(CheckJob(spec).empty()) << spec.DebugString();
    const Mesh mesh = MeshOf(spec).value();
    const ParameterTable table = ParameterTable::Create(spec.model()).value();
    const auto ranks = MemoryOfRanks(spec, table, PartitionStages(table, mesh.pipeline()).value(), mesh);
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    ASSERT_EQ(static_cast<int>(ranks->size()), mesh.size());
    for (int rank = 0; rank < mesh.size(); ++rank) {
      SCOPED_TRACE(absl::StrCat(mesh.ToString(), ", micro-batch ", job.micro_batch, ", rank ", rank));
      const WorkerMemory both = PlanOf(spec, rank, mesh.size());
      const MemoryPlan& worker = both.device;
      const RankMemory& planned = (*ranks)[static_cast<size_t>(rank)];
      for (const MemoryClass exact : {MemoryClass::kParameter, MemoryClass::kGradient, MemoryClass::kOptimizer,
                                      MemoryClass::kActivation, MemoryClass::kCommunication}) {
        EXPECT_EQ(planned[exact], worker.BytesOf(exact)) << MemoryClassName(exact);
      }
      // What sums and the like take comes on top.
      const int64_t workspace = worker.BytesOf(MemoryClass::kWorkspace);
      EXPECT_LE(planned[MemoryClass::kWorkspace], workspace);
      EXPECT_GE(planned[MemoryClass::kWorkspace], workspace - (int64_t{1} << 20));
      // What is staged is less than the memory for it, so it is all that a rank pushes or pulls at once: with an
      // offloaded optimizer the weights that it begins with.
      if (job.offload) {
        EXPECT_GT(planned.host_bytes, both.host.total_bytes());
        EXPECT_LE(planned.host_bytes, both.host.total_bytes() + planned[MemoryClass::kParameter]);
      } else if (job.gpu) {
        const auto traffic =
            TrafficOfRanks(spec, table, PartitionStages(table, mesh.pipeline()).value(), mesh, /*shards=*/1).value();
        const RankTraffic& mine = traffic[static_cast<size_t>(rank)];
        const int64_t staged = planned.host_bytes - both.host.total_bytes();
        EXPECT_GE(staged, std::max(mine.pushed, mine.pulled));
        EXPECT_LE(staged, 3 * std::max(mine.pushed, mine.pulled) + 64);
      } else {
        EXPECT_EQ(planned.host_bytes, 0);
      }
    }
  }
}

}  // namespace
}  // namespace penstock
