#include "core/plan/cost_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>

#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"

namespace penstock {
namespace {

using LayerRate = v1::ComputeRates::LayerRate;

// What isn't measured at registration. The first steps of jobs correct it (CostCorrection).
struct Link {
  // From the end of a send to the end of its receive, for a message without size.
  double latency_seconds;
  // Of activations between two stages.
  double message_bytes_per_second;
  // Of sums and gathers within a group: bytes that a rank takes in, with the additions.
  double group_bytes_per_second;
};
// TCP over loopback, where every byte is copied twice by the same cores that add.
constexpr Link kInsideHost = {
    .latency_seconds = 60e-6, .message_bytes_per_second = 3e9, .group_bytes_per_second = 1.7e9};
// Ten-gigabit Ethernet, which is what clusters of CPUs have at least.
constexpr Link kBetweenHosts = {
    .latency_seconds = 100e-6, .message_bytes_per_second = 1.1e9, .group_bytes_per_second = 0.8e9};
// A rank's streams into or out of the shards, while all of them have the cores that they ask for.
constexpr double kServiceBytesPerSecond = 3.4e9;
constexpr double kServiceBytesPerSecondBetweenHosts = 1.0e9;
// Of processor time on each side of such a stream: docs/BENCHMARKS.md has 0.41 ms for a MiB on both together.
constexpr double kServiceCoreSecondsPerByte = 0.2e-9;
// What doesn't depend on bytes: opening the streams of a push and of a pull, and the two rounds of a commit. And the
// processor time of that, for each owner, on its side and on the shards'.
constexpr double kServiceSeconds = 2e-3;
constexpr double kServiceCoreSeconds = 1.3e-3;
// Where the ranks update: pieces go to those who add them up, sums to the leader, its decision to all.
constexpr double kNormRounds = 3;
// Cores of a host share its caches and its memory: how much longer passes take when all of them are busy, and loops
// over memory (docs/BENCHMARKS.md).
constexpr double kNeighbourSlowdown = 0.04;
constexpr double kMemoryNeighbourSlowdown = 0.5;
// An update reads gradient, weight and two moments, and writes three of them.
constexpr double kUpdateBytesPerElement = 28;
// Where a GPU's optimizer is on its host: what the host reads and writes for an element (the gradient comes, the new
// weight goes), at the rate of half a server's memory, and what a link of PCIe 4.0 carries.
constexpr double kOffloadedBytesPerElement = 32;
constexpr double kOffloadedBytesPerSecond = 100e9;
constexpr double kGpuLinkBytesPerSecond = 20e9;
// A rank reads and writes the gradients that it leaves to its mirror.
constexpr double kMirrorCopyBytesPerElement = 8;
// A sum over the tensor group in the middle of a pass, without its bytes: rounds of messages (one between two ranks,
// two between more), for each of which all ranks must have the processor.
constexpr double kTensorRoundSeconds = 50e-6;
// Cores that a rank keeps busy meanwhile: it waits for the others half of the time.
constexpr double kTensorSumCores = 0.5;
// Around a pass: the instruction list, the samples, the timeline.
constexpr double kPassSeconds = 40e-6;
// Of the embedding, for each of the elements that the table counts an addition for: read two, write one.
constexpr double kEmbeddingBytesPerFlop = 12;
constexpr double kFloat = 4;

// The sum of a layer's weights with two and more axes: what its products multiply by.
double ProductElements(const ParameterTable& table, const Block& block) {
  double elements = 0;
  for (int i = block.first_parameter; i < block.last_parameter; ++i) {
    const Parameter& parameter = table.parameters()[static_cast<size_t>(i)];
    if (parameter.shape.size() > 1) elements += static_cast<double>(parameter.size());
  }
  return elements;
}

struct Passes {
  double forward = 0;
  double backward = 0;
};

// What a stage is made of, for one micro-batch.
struct PassWork {
  double tokens = 0;
  double samples = 0;
  double hidden = 0;
  int tensor = 1;
  DataType type = DataType::kFloat32;
};

double MemoryRate(const v1::WorkerRates& rates) {
  return rates.memory_bytes_per_second() > 0 ? rates.memory_bytes_per_second()
                                             : DefaultRates().memory_bytes_per_second();
}

Passes LayerSeconds(const ParameterTable& table, const Block& block, const PassWork& work,
                    const v1::ComputeRates& rates) {
  const double linear = 2 * ProductElements(table, block) * work.tokens / work.tensor;
  const double whole = block.forward_flops_per_sample * work.samples / work.tensor;
  const double attention = std::max(0.0, whole - linear);
  const double ratio =
      block.forward_flops_per_sample > 0 ? block.backward_flops_per_sample / block.forward_flops_per_sample : 0;
  // A split layer has one long and one short axis.
  const double width = work.hidden / std::sqrt(static_cast<double>(work.tensor));
  const auto rate = [&](double (LayerRate::*get)() const) { return RateAt(rates, width, get); };
  return {linear / rate(&LayerRate::forward_flops_per_second) +
              attention / rate(&LayerRate::attention_forward_flops_per_second),
          ratio * (linear / rate(&LayerRate::backward_flops_per_second) +
                   attention / rate(&LayerRate::attention_backward_flops_per_second))};
}

// The head's gradients are computed with its forward pass (worker/model/stage_model.h).
Passes HeadSeconds(const Block& block, const PassWork& work, const v1::ComputeRates& rates) {
  const double flops = (block.forward_flops_per_sample + block.backward_flops_per_sample) * work.samples / work.tensor;
  // Measured at one width; its products slow down with narrow models as those of layers do.
  const auto layer = [&](double width) { return RateAt(rates, width, &LayerRate::forward_flops_per_second); };
  constexpr double kMeasuredWidth = 256;
  const double rate = rates.head_flops_per_second() * std::min(1.5, layer(work.hidden) / layer(kMeasuredWidth));
  return {flops / rate, 0};
}

Passes EmbeddingSeconds(const Block& block, const PassWork& work, double memory_bytes_per_second) {
  const double per_flop = kEmbeddingBytesPerFlop / memory_bytes_per_second;
  return {block.forward_flops_per_sample * work.samples * per_flop,
          block.backward_flops_per_sample * work.samples * per_flop};
}

Passes StageSeconds(const ParameterTable& table, const BlockRange& blocks, const PassWork& work,
                    const v1::WorkerRates& worker) {
  const v1::ComputeRates& rates = RatesIn(work.type, worker);
  Passes sum = {kPassSeconds, kPassSeconds};
  for (int i = blocks.begin; i < blocks.end; ++i) {
    const Block& block = table.blocks()[static_cast<size_t>(i)];
    Passes passes;
    switch (block.kind) {
      case BlockKind::kEmbedding:
        passes = EmbeddingSeconds(block, work, MemoryRate(worker));
        break;
      case BlockKind::kLayer:
        passes = LayerSeconds(table, block, work, rates);
        break;
      case BlockKind::kHead:
        passes = HeadSeconds(block, work, rates);
        break;
    }
    sum.forward += passes.forward;
    sum.backward += passes.backward;
  }
  return sum;
}

// Sums over the tensor group in one direction of a micro-batch: two for each layer, one for embedding or head.
double TensorSums(const ParameterTable& table, const BlockRange& blocks) {
  double sums = 0;
  for (int i = blocks.begin; i < blocks.end; ++i) {
    sums += table.blocks()[static_cast<size_t>(i)].kind == BlockKind::kLayer ? 2 : 1;
  }
  return sums;
}

class StepCoster {
 public:
  StepCoster(const v1::JobSpec& spec, const ParameterTable& table, const Mesh& mesh, const ClusterProfile& cluster,
             const std::vector<int>& placed)
      : spec_(spec), table_(table), mesh_(mesh), cluster_(cluster), placed_(placed) {
    work_.samples = spec.training().micro_batch_size();
    work_.tokens = work_.samples * spec.model().seq_length();
    work_.tensor = mesh.tensor();
    local_ = UpdatesLocally(spec);
    mirrors_ = local_ && !IsPublished(spec);
    copies_ = mirrors_ && GradientSums(spec) == 1;
    threads_.resize(cluster.hosts.size());
    for (const int worker : placed) {
      threads_[static_cast<size_t>(cluster.workers[static_cast<size_t>(worker)].host)] +=
          cluster.workers[static_cast<size_t>(worker)].threads;
    }
    work_.type = ComputeType(spec);
    work_.hidden = static_cast<double>(table.blocks()[0].boundary_elements_per_sample) / spec.model().seq_length();
  }

  StepCosts Run(const std::vector<BlockRange>& stages) {
    StepCosts costs;
    for (const ClusterHost& host : cluster_.hosts) costs.simulation.host_cores.push_back(host.cores);
    for (size_t stage = 0; stage < stages.size(); ++stage) AddStage(static_cast<int>(stage), stages[stage], &costs);
    if (mirrors_) costs.mirror = Mirror(stages);
    return costs;
  }

 private:
  const ClusterWorker& WorkerOf(const MeshCoordinates& at) const {
    return cluster_.workers[static_cast<size_t>(placed_[static_cast<size_t>(mesh_.RankOf(at))])];
  }
  // Between the hosts of two ranks of a group the slowest pair decides.
  template <typename Visit>
  void VisitRanks(int stage, const Visit& visit) const {
    for (int data_rank = 0; data_rank < mesh_.data(); ++data_rank) {
      for (int tensor_rank = 0; tensor_rank < mesh_.tensor(); ++tensor_rank) visit({stage, data_rank, tensor_rank});
    }
  }
  const Link& TensorLink(int stage) const {
    const Link* link = &kInsideHost;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      if (WorkerOf(at).host != WorkerOf({stage, at.data_rank, 0}).host) link = &kBetweenHosts;
    });
    return *link;
  }
  const Link& DataLink(int stage) const {
    const Link* link = &kInsideHost;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      if (WorkerOf(at).host != WorkerOf({stage, 0, at.tensor_rank}).host) link = &kBetweenHosts;
    });
    return *link;
  }
  const Link& NextStageLink(int stage) const {
    const Link* link = &kInsideHost;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      if (WorkerOf(at).host != WorkerOf({stage + 1, at.data_rank, at.tensor_rank}).host) link = &kBetweenHosts;
    });
    return *link;
  }

  // Of the job's ranks.
  double ThreadsOn(int host) const { return threads_[static_cast<size_t>(host)]; }
  // Of a host's cores other than one's own, the share that is busy when `threads` want them: 0 to 1.
  double BusyShare(int host, double threads) const {
    const double cores = cluster_.hosts[static_cast<size_t>(host)].cores;
    return cores > 1 ? std::max(0.0, std::min(cores, threads) - 1) / (cores - 1) : 0;
  }
  // Bytes a second that one of them reads and writes. Shards are taken for as fast as the first worker.
  double MemoryRateAmong(const v1::WorkerRates& rates, int host, double threads) const {
    return MemoryRate(rates) / (1 + kMemoryNeighbourSlowdown * BusyShare(host, threads));
  }

  // Passes of the slowest worker, with the tensor group's sums, of which they are this share.
  Passes SlowestPasses(int stage, const BlockRange& blocks, StepCosts* costs, double* sums_share) const {
    Passes slowest;
    *sums_share = 0;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      const Passes passes = StageSeconds(table_, blocks, work_, WorkerOf(at).rates);
      const double crowded = 1 + kNeighbourSlowdown * BusyShare(WorkerOf(at).host, ThreadsOn(WorkerOf(at).host));
      slowest.forward = std::max(slowest.forward, crowded * passes.forward);
      slowest.backward = std::max(slowest.backward, crowded * passes.backward);
    });
    slowest.forward *= cluster_.correction.compute;
    slowest.backward *= cluster_.correction.compute;
    if (mesh_.tensor() == 1) return slowest;
    const Link& link = TensorLink(stage);
    const double bytes = kFloat * work_.tokens * work_.hidden * 2 * (mesh_.tensor() - 1) / mesh_.tensor();
    const int rounds = mesh_.tensor() == 2 ? 1 : 2;
    const double seconds =
        TensorSums(table_, blocks) * cluster_.correction.exchange *
        (bytes / link.group_bytes_per_second + rounds * (kTensorRoundSeconds + link.latency_seconds));
    slowest.forward += seconds;
    slowest.backward += seconds;
    *sums_share = 2 * seconds / (slowest.forward + slowest.backward);
    costs->tensor_seconds = std::max(costs->tensor_seconds, 2 * seconds * MicroBatches(spec_));
    return slowest;
  }

  // Of one rank and step: what it sums within its data group, and gathers afterwards.
  double GroupSeconds(int stage, double bytes) const {
    const Link& link = DataLink(stage);
    const int others = mesh_.data() - 1;
    return others == 0 ? 0 : bytes / link.group_bytes_per_second + others * link.latency_seconds;
  }

  // For what a rank owns, through its own stream and through all shards together.
  double ServiceSeconds(int stage, double owned, double element_bytes) const {
    bool far = cluster_.shard_hosts.empty();
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      for (const int host : cluster_.shard_hosts) far = far || host != WorkerOf(at).host;
    });
    const double rate = far ? kServiceBytesPerSecondBetweenHosts : kServiceBytesPerSecond;
    const double all = static_cast<double>(table_.size());
    return element_bytes * std::max(owned / rate, all / (rate * Shards()));
  }
  double Shards() const {
    const size_t all = std::max<size_t>(1, cluster_.shard_hosts.size());
    return static_cast<double>(spec_.parallel().shards() > 0 ? std::min<size_t>(all, spec_.parallel().shards()) : all);
  }

  bool SplitsOwnership() const { return spec_.parallel().zero().stage() >= 1; }
  // What an owner has of a rank's elements.
  double Owned(double elements) const { return SplitsOwnership() ? elements / mesh_.data() : elements; }
  // Of the shard that shares its host with the most others, all of which update their part of the whole at once.
  double ShardUpdateSeconds() const {
    const v1::WorkerRates& rates = WorkerOf({0, 0, 0}).rates;
    double memory = MemoryRate(rates);
    std::map<int, double> shards;
    VisitShards([&](int host) { ++shards[host]; });
    for (const auto& [host, count] : shards) memory = std::min(memory, MemoryRateAmong(rates, host, count));
    return kUpdateBytesPerElement * static_cast<double>(table_.size()) / Shards() / memory;
  }

  // Seconds of processor time by host.
  using CoreSeconds = std::map<int, double>;

  // Of what each owner of a stage sends to the shards or gets from them.
  void AddServiceWork(int stage, double bytes_of_owner, CoreSeconds* work) const {
    const double side = kServiceCoreSeconds + kServiceCoreSecondsPerByte * bytes_of_owner;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      if (!SplitsOwnership() && at.data_rank > 0) return;
      (*work)[WorkerOf(at).host] += side;
      VisitShards([&](int host) { (*work)[host] += side / Shards(); });
    });
  }
  template <typename Visit>
  void VisitShards(const Visit& visit) const {
    for (size_t i = 0; i < cluster_.shard_hosts.size() && i < static_cast<size_t>(Shards()); ++i) {
      visit(cluster_.shard_hosts[i]);
    }
  }

  // Push, the two rounds of a commit, and the update.
  StageCosts Mirror(const std::vector<BlockRange>& stages) const {
    double push = 0;
    CoreSeconds work;
    for (int stage = 0; stage < mesh_.pipeline(); ++stage) {
      const double owned = Owned(ElementsOfRank(table_, stages[static_cast<size_t>(stage)], mesh_.tensor()));
      push = std::max(push, ServiceSeconds(stage, owned, kFloat));
      AddServiceWork(stage, kFloat * owned, &work);
    }
    VisitShards([&](int host) { work[host] += ShardUpdateSeconds(); });
    const double seconds = push + kServiceSeconds + ShardUpdateSeconds();
    StageCosts mirror;
    mirror.forward_seconds = cluster_.correction.exchange * seconds;
    mirror.loads.clear();
    for (const auto& [host, busy] : work) mirror.loads.push_back({.host = host, .cores = busy / seconds});
    return mirror;
  }

  static double LinkOf(const ClusterWorker& worker) {
    return worker.gpu_link_bytes_per_second > 0 ? worker.gpu_link_bytes_per_second : kGpuLinkBytesPerSecond;
  }
  // Gradients and weights take turns on the link, beside the host's update (worker/runtime/local_optimizer.h).
  double OffloadedSeconds(const ClusterWorker& worker, double weight_bytes, double owned) const {
    const double gradient_bytes = OffloadsGradients(spec_) ? 0 : kFloat * owned;
    return std::max((gradient_bytes + weight_bytes) / LinkOf(worker),
                    kOffloadedBytesPerElement * owned / kOffloadedBytesPerSecond);
  }

  void AddExchange(int stage, const BlockRange& blocks, StageCosts* stage_costs, StepCosts* costs) const {
    const double elements = ElementsOfRank(table_, blocks, mesh_.tensor());
    const double owned = Owned(elements);
    const double others = mesh_.data() - 1;
    const ClusterWorker& worker = WorkerOf({stage, 0, 0});
    const double memory = MemoryRateAmong(worker.rates, worker.host, ThreadsOn(worker.host));
    // Weights travel in what is computed in, gradients in fp32.
    const double weight_bytes = static_cast<double>(BytesOf(work_.type));
    // In ZeRO 0 data rank 0 takes in everybody's whole gradient, else each rank everybody's part. ZeRO 2 sums each
    // micro-batch's gradients, the others a step's. The weights come back as far as the owner, then through the group.
    const double sums = spec_.parallel().zero().stage() >= 2 ? MicroBatches(spec_) : 1;
    const double group = sums * GroupSeconds(stage, kFloat * owned * others);
    const double gather =
        GroupSeconds(stage, weight_bytes * (SplitsOwnership() ? owned * others : elements * (others > 0 ? 1 : 0)));
    const double clear = kFloat * elements / memory;
    CoreSeconds work;
    VisitRanks(stage, [&](const MeshCoordinates& at) { work[WorkerOf(at).host] += group + gather + clear; });
    // Each micro-batch's gradients go to the host.
    double reduce = group + (OffloadsGradients(spec_) ? MicroBatches(spec_) * kFloat * owned / LinkOf(worker) : 0);
    double update = clear + gather;
    double service = 0;
    if (local_) {
      // The service gets its part off the critical path.
      const double update_seconds = IsOffloaded(spec_) ? OffloadedSeconds(worker, weight_bytes * owned, owned)
                                                       : kUpdateBytesPerElement * owned / memory;
      const double seconds = update_seconds + (copies_ ? kMirrorCopyBytesPerElement * owned / memory : 0);
      VisitRanks(stage, [&](const MeshCoordinates& at) { work[WorkerOf(at).host] += seconds; });
      update += seconds + (mesh_.size() > 1 ? kNormRounds * DataLink(stage).latency_seconds : 0);
    } else {
      AddServiceWork(stage, (kFloat + weight_bytes) * owned, &work);
      VisitShards([&](int host) {
        work[host] += ShardUpdateSeconds() * std::min(1.0, elements / static_cast<double>(table_.size()));
      });
      const double push = ServiceSeconds(stage, owned, kFloat) + kServiceSeconds / 3;
      service = push + ShardUpdateSeconds() + ServiceSeconds(stage, owned, weight_bytes) + 2 * kServiceSeconds / 3;
      reduce += push;
      update += service - push;
    }
    const double correction = cluster_.correction.exchange;
    stage_costs->reduce_seconds = correction * reduce;
    stage_costs->optimizer_seconds = correction * update;
    SetExchangeCores(work, reduce + update, &stage_costs->loads);
    costs->data_seconds = std::max(costs->data_seconds, correction * (group + gather));
    costs->service_seconds = std::max(costs->service_seconds, correction * service);
    costs->data_bytes = std::max(costs->data_bytes, (kFloat + weight_bytes) * owned * others);
  }

  std::vector<HostLoad> PassLoads(int stage, double sums_share) const {
    std::map<int, double> cores;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      cores[WorkerOf(at).host] += (1 - sums_share) * WorkerOf(at).threads + sums_share * kTensorSumCores;
    });
    std::vector<HostLoad> loads;
    for (const auto& [host, asked] : cores) loads.push_back({.host = host, .cores = asked});
    return loads;
  }
  // `work`: of an exchange that takes `seconds`.
  static void SetExchangeCores(const CoreSeconds& work, double seconds, std::vector<HostLoad>* loads) {
    for (const auto& [host, busy] : work) {
      const auto load = std::find_if(loads->begin(), loads->end(), [&](const HostLoad& l) { return l.host == host; });
      HostLoad& here = load != loads->end() ? *load : loads->emplace_back(HostLoad{host, 0, 0});
      here.exchange_cores = seconds > 0 ? busy / seconds : 0;
    }
  }

  void AddStage(int stage, const BlockRange& blocks, StepCosts* costs) const {
    StageCosts stage_costs;
    double sums_share = 0;
    const Passes passes = SlowestPasses(stage, blocks, costs, &sums_share);
    stage_costs.forward_seconds = passes.forward;
    stage_costs.backward_seconds = passes.backward;
    stage_costs.loads = PassLoads(stage, sums_share);
    AddExchange(stage, blocks, &stage_costs, costs);
    if (stage + 1 < mesh_.pipeline()) {
      const Link& link = NextStageLink(stage);
      stage_costs.boundary_bytes = static_cast<double>(BytesOf(work_.type)) * work_.tokens * work_.hidden;
      stage_costs.link_latency_seconds = link.latency_seconds * cluster_.correction.exchange;
      stage_costs.link_bytes_per_second = link.message_bytes_per_second / cluster_.correction.exchange;
    }
    costs->simulation.stages.push_back(std::move(stage_costs));
  }

  const v1::JobSpec& spec_;
  const ParameterTable& table_;
  const Mesh& mesh_;
  const ClusterProfile& cluster_;
  const std::vector<int>& placed_;
  PassWork work_;
  // The ranks update; the service follows.
  bool local_ = false;
  bool mirrors_ = false;
  // It gets a copy of the gradients.
  bool copies_ = false;
  // Of the job, by host.
  std::vector<double> threads_;
};

}  // namespace

double ElementsOfRank(const ParameterTable& table, const BlockRange& blocks, int tensor) {
  double elements = 0;
  const auto add = [&](const Parameter& parameter) {
    elements += static_cast<double>(parameter.size()) / (parameter.split == SplitAxis::kSplit ? tensor : 1);
  };
  for (int i = blocks.begin; i < blocks.end; ++i) {
    const Block& block = table.blocks()[static_cast<size_t>(i)];
    for (int p = block.first_parameter; p < block.last_parameter; ++p) add(table.parameters()[static_cast<size_t>(p)]);
    if (block.uses_tied && blocks.begin > 0 && table.tied() != nullptr) add(*table.tied());
  }
  return elements;
}

double RateAt(const v1::ComputeRates& rates, double hidden, double (LayerRate::*rate)() const) {
  PENSTOCK_CHECK(rates.layers_size() > 0);
  const auto value = [&](int i) { return std::max(1.0, (rates.layers(i).*rate)()); };
  if (hidden <= rates.layers(0).hidden()) return value(0);
  for (int i = 1; i < rates.layers_size(); ++i) {
    const double low = rates.layers(i - 1).hidden();
    const double high = rates.layers(i).hidden();
    if (hidden > high) continue;
    const double share = high > low ? std::log(hidden / low) / std::log(high / low) : 1;
    return std::exp((1 - share) * std::log(value(i - 1)) + share * std::log(value(i)));
  }
  return value(rates.layers_size() - 1);
}

StepCosts CostsOfStep(const v1::JobSpec& spec, const ParameterTable& table, const std::vector<BlockRange>& stages,
                      const Mesh& mesh, const ClusterProfile& cluster, const std::vector<int>& placed) {
  return StepCoster(spec, table, mesh, cluster, placed).Run(stages);
}

}  // namespace penstock
