#include "core/plan/prediction.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "core/plan/memory_model.h"
#include "core/plan/nccl_blocks.h"
#include "core/plan/partition.h"
#include "core/schedule/schedule.h"
#include "core/schedule/simulator.h"

namespace penstock {
namespace {

// Of a host's memory, what its members may plan for: the rest is the system's, the processes' own and the pages of the
// corpus.
constexpr double kUsableMemory = 0.9;
// Of a GPU's, what each process with a rank on it takes beside the rank's plan: the context (about 0.5 GB), all
// kernels, cuBLASLt's and NCCL's among them, which are loaded before they are needed (some 0.8 GB), and the libraries'
// own. To be measured on cards (tests/gpu).
constexpr double kGpuProcessBytes = 2e9;
// NCCL's buffers for two ranks of a host, for each block of threads that moves messages between them (its protocols'
// 0.5, 4.7 and 4 MB). Between hosts it shares them.
constexpr double kNcclBlockBytes = 9.6e6;

void AddStages(const ParameterTable& table, const std::vector<BlockRange>& stages, const StepCosts& costs,
               v1::MeshPlan* plan) {
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    v1::StagePlan& shown = *plan->add_stages();
    bool any = false;
    for (int i = stages[stage].begin; i < stages[stage].end; ++i) {
      const Block& block = table.blocks()[static_cast<size_t>(i)];
      shown.add_blocks(block.name);
      if (block.kind != BlockKind::kLayer) continue;
      // Layer i is block i + 1.
      if (!any) shown.set_first_layer(static_cast<uint32_t>(i - 1));
      any = true;
      shown.set_layers(shown.layers() + 1);
    }
    shown.set_forward_seconds(costs.simulation.stages[stage].forward_seconds);
    shown.set_backward_seconds(costs.simulation.stages[stage].backward_seconds);
  }
}

// What ranks share memory in: a host, or one of its GPUs.
using MemoryOwner = std::pair<int, std::string>;

// Ranks of each owner on these workers.
std::map<MemoryOwner, int> CountRanks(const ClusterProfile& cluster, const std::vector<int>& placed) {
  std::map<MemoryOwner, int> ranks;
  for (const int index : placed) {
    const ClusterWorker& worker = cluster.workers[static_cast<size_t>(index)];
    ++ranks[{worker.host, ""}];
    if (!worker.gpu.empty()) ++ranks[{worker.host, worker.gpu}];
  }
  return ranks;
}

// A rank's even share of its host's memory, or of its GPU's; 0 where it isn't known.
double ShareOfHost(const ClusterProfile& cluster, const ClusterWorker& worker,
                   const std::map<MemoryOwner, int>& ranks) {
  const ClusterHost& host = cluster.hosts[static_cast<size_t>(worker.host)];
  return host.memory_bytes <= 0 ? 0
                                : kUsableMemory * static_cast<double>(host.memory_bytes) / ranks.at({worker.host, ""});
}
double ShareOfGpu(const ClusterWorker& worker, const std::map<MemoryOwner, int>& ranks) {
  if (worker.gpu_bytes <= 0) return 0;
  return std::max(1.0, static_cast<double>(worker.gpu_bytes) / ranks.at({worker.host, worker.gpu}) - kGpuProcessBytes);
}

// What NCCL takes of a rank's GPU, where no other rank has the same one.
double NcclBytes(const Mesh& mesh, int rank, const ClusterProfile& cluster, const std::vector<int>& placed) {
  const auto host_of = [&](int other) {
    return cluster.workers[static_cast<size_t>(placed[static_cast<size_t>(other)])].host;
  };
  const MeshCoordinates at = mesh.CoordinatesOf(rank);
  int blocks = 0;
  for (int other = 0; other < mesh.size(); ++other) {
    const MeshCoordinates there = mesh.CoordinatesOf(other);
    if (other == rank || there.stage != at.stage || host_of(other) != host_of(rank)) continue;
    if (there.data_rank == at.data_rank || there.tensor_rank == at.tensor_rank) blocks += kNcclGroupBlocksMax;
  }
  // Forth and back to each neighbour, and for the tied parameter.
  const bool first = at.stage == 0;
  const bool last = at.stage == mesh.pipeline() - 1;
  const int neighbours = (first ? 0 : 1) + (last ? 0 : 1) + (first != last ? 1 : 0);
  return kNcclBlockBytes * (blocks + kNcclLaneBlocksMax * 2 * neighbours);
}

// What each rank holds, and what it may.
absl::Status AddRanks(const v1::JobSpec& spec, const ParameterTable& table, const std::vector<BlockRange>& stages,
                      const Mesh& mesh, const ClusterProfile& cluster, const std::vector<int>& placed,
                      Prediction* prediction) {
  const std::map<MemoryOwner, int> sharing = CountRanks(cluster, placed);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<RankMemory> memories, MemoryOfRanks(spec, table, stages, mesh));
  double most_missing = 0;
  const auto compare = [&](int rank, double bytes, double available, bool on_host) {
    if (available <= 0 || bytes - available <= most_missing) return;
    most_missing = bytes - available;
    prediction->short_of_memory = rank;
    prediction->short_on_host = on_host;
    prediction->short_bytes = bytes;
    prediction->short_available_bytes = available;
  };
  for (int rank = 0; rank < mesh.size(); ++rank) {
    const MeshCoordinates at = mesh.CoordinatesOf(rank);
    const ClusterWorker& worker = cluster.workers[static_cast<size_t>(placed[static_cast<size_t>(rank)])];
    v1::RankPlanBytes& shown = *prediction->plan.add_ranks();
    shown.set_rank(static_cast<uint32_t>(rank));
    shown.set_worker_id(worker.id);
    shown.set_stage(static_cast<uint32_t>(at.stage));
    shown.set_data_rank(static_cast<uint32_t>(at.data_rank));
    shown.set_tensor_rank(static_cast<uint32_t>(at.tensor_rank));
    const RankMemory& memory = memories[static_cast<size_t>(rank)];
    for (size_t i = 0; i < memory.bytes.size(); ++i) {
      v1::RankPlanBytes::ClassBytes& entry = *shown.add_classes();
      entry.set_memory_class(MemoryClassName(static_cast<MemoryClass>(i)));
      entry.set_bytes(static_cast<uint64_t>(memory.bytes[i]));
    }
    shown.set_total_bytes(static_cast<uint64_t>(memory.total()));
    shown.set_host_bytes(static_cast<uint64_t>(memory.host_bytes));
    const double of_host = ShareOfHost(cluster, worker, sharing);
    double available = of_host;
    if (!worker.gpu.empty()) {
      available = ShareOfGpu(worker, sharing);
      const bool alone = sharing.at({worker.host, worker.gpu}) == 1;
      if (available > 0 && alone) available = std::max(1.0, available - NcclBytes(mesh, rank, cluster, placed));
    }
    shown.set_available_bytes(static_cast<uint64_t>(available));
    compare(rank, static_cast<double>(memory.total()), available, /*on_host=*/false);
    if (!worker.gpu.empty()) compare(rank, static_cast<double>(memory.host_bytes), of_host, /*on_host=*/true);
  }
  return absl::OkStatus();
}

// A simulated step.
struct StepTimes {
  double seconds = 0;
  // Of all stages together, in instructions other than sends and receives.
  double busy_seconds = 0;
  // Of the leader's stage.
  double compute_seconds = 0;
  double exchange_seconds = 0;
};

// Simulates `micro_batches` of the step's `all` ones. What the service replays meanwhile is one more row of the
// schedule, of a single instruction, spread over the step.
absl::StatusOr<StepTimes> SimulateStep(ScheduleKind kind, int stages, int micro_batches, int all,
                                       const StepCosts& costs) {
  PENSTOCK_ASSIGN_OR_RETURN(Schedule schedule, BuildSchedule(kind, stages, micro_batches));
  SimulationInput input = costs.simulation;
  if (costs.mirror.has_value()) {
    schedule.push_back({{.op = Op::kForward}});
    input.stages.push_back(*costs.mirror);
    input.stages.back().forward_seconds *= static_cast<double>(micro_batches) / all;
  }
  PENSTOCK_ASSIGN_OR_RETURN(const SimulationResult result, Simulate(schedule, input));
  const size_t leader = static_cast<size_t>(stages) - 1;
  StepTimes times;
  times.seconds = result.makespan_seconds;
  for (int stage = 0; stage < stages; ++stage) times.busy_seconds += result.busy_seconds[static_cast<size_t>(stage)];
  for (size_t i = 0; i < schedule[leader].size(); ++i) {
    const InstructionTime& time = result.times[leader][i];
    const double seconds = time.end_seconds - time.begin_seconds;
    const Op op = schedule[leader][i].op;
    if (IsCompute(op)) times.compute_seconds += seconds;
    if (op == Op::kReduceGradients || op == Op::kOptimizerStep) times.exchange_seconds += seconds;
  }
  double ranks_done = 0;
  for (int stage = 0; stage < stages; ++stage) {
    ranks_done = std::max(ranks_done, result.times[static_cast<size_t>(stage)].back().end_seconds);
  }
  times.exchange_seconds += times.seconds - ranks_done;
  return times;
}

// A step of more micro-batches than are worth simulating repeats what its first ones do: each more takes as long as one
// in the steady state.
absl::StatusOr<StepTimes> TimesOfStep(ScheduleKind kind, int stages, int micro_batches, const StepCosts& costs) {
  const int simulated = std::max(2 * stages, kSimulatedCellsMax / stages);
  if (micro_batches <= simulated) return SimulateStep(kind, stages, micro_batches, micro_batches, costs);
  PENSTOCK_ASSIGN_OR_RETURN(const StepTimes half, SimulateStep(kind, stages, simulated / 2, micro_batches, costs));
  PENSTOCK_ASSIGN_OR_RETURN(StepTimes whole, SimulateStep(kind, stages, simulated, micro_batches, costs));
  const double more = static_cast<double>(micro_batches - simulated) / (simulated - simulated / 2);
  whole.seconds += more * (whole.seconds - half.seconds);
  whole.busy_seconds += more * (whole.busy_seconds - half.busy_seconds);
  whole.compute_seconds += more * (whole.compute_seconds - half.compute_seconds);
  return whole;
}

}  // namespace

std::string GigabytesText(double bytes) {
  return bytes >= 1e8 ? absl::StrFormat("%.1f GB", bytes / 1e9) : absl::StrFormat("%.1f MB", bytes / 1e6);
}

absl::StatusOr<Prediction> Predict(const v1::JobSpec& spec, const ClusterProfile& cluster,
                                   const std::vector<int>& placed) {
  PENSTOCK_ASSIGN_OR_RETURN(const Mesh mesh, MeshOf(spec));
  PENSTOCK_CHECK(static_cast<int>(placed.size()) == mesh.size());
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec.model()));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<BlockRange> stages, PartitionStages(table, mesh.pipeline()));
  Prediction prediction;
  prediction.correction = cluster.correction;
  v1::MeshPlan& plan = prediction.plan;
  plan.mutable_mesh()->set_pipeline(static_cast<uint32_t>(mesh.pipeline()));
  plan.mutable_mesh()->set_data(static_cast<uint32_t>(mesh.data()));
  plan.mutable_mesh()->set_tensor(static_cast<uint32_t>(mesh.tensor()));
  plan.set_schedule(spec.parallel().schedule());
  plan.set_micro_batch_size(spec.training().micro_batch_size());
  plan.set_micro_batches(static_cast<uint32_t>(MicroBatches(spec)));
  PENSTOCK_RETURN_IF_ERROR(AddRanks(spec, table, stages, mesh, cluster, placed, &prediction));
  if (prediction.short_of_memory >= 0) return prediction;

  prediction.costs = CostsOfStep(spec, table, stages, mesh, cluster, placed);
  PENSTOCK_ASSIGN_OR_RETURN(const StepTimes times,
                            TimesOfStep(ScheduleKindOf(spec), mesh.pipeline(), MicroBatches(spec), prediction.costs));
  prediction.leader_compute_seconds = times.compute_seconds;
  prediction.leader_exchange_seconds = times.exchange_seconds;
  plan.set_step_seconds(times.seconds);
  plan.set_bubble_ratio(std::clamp(1 - times.busy_seconds / (times.seconds * mesh.pipeline()), 0.0, 1.0));
  plan.set_tokens_per_second(static_cast<double>(spec.training().global_batch_size()) * spec.model().seq_length() /
                             times.seconds);
  AddStages(table, stages, prediction.costs, &plan);
  return prediction;
}

}  // namespace penstock
