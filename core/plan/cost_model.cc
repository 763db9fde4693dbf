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
    .latency_seconds = 60e-6, .message_bytes_per_second = 3e9, .group_bytes_per_second = 0.9e9};
// Ten-gigabit Ethernet, which is what clusters of CPUs have at least.
constexpr Link kBetweenHosts = {
    .latency_seconds = 100e-6, .message_bytes_per_second = 1.1e9, .group_bytes_per_second = 0.8e9};
// A stream into or out of a shard: framing, checksum, copies.
constexpr double kServiceBytesPerSecond = 1.2e9;
constexpr double kServiceBytesPerSecondBetweenHosts = 1.0e9;
// Opening the streams of a push and of a pull, and the two rounds of a commit.
constexpr double kServiceSeconds = 2e-3;
// Cores that a rank or a shard keeps busy while it exchanges: it waits for the other end half of the time.
constexpr double kExchangeCores = 0.5;
// An update reads gradient, weight and two moments, and writes three of them.
constexpr double kUpdateBytesPerElement = 28;
// A sum over the tensor group in the middle of a pass, without its bytes: rounds of messages (one between two ranks,
// two between more), for each of which all ranks must have the processor.
constexpr double kTensorRoundSeconds = 50e-6;
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
    work_.type = ComputeType(spec);
    work_.hidden = static_cast<double>(table.blocks()[0].boundary_elements_per_sample) / spec.model().seq_length();
  }

  StepCosts Run(const std::vector<BlockRange>& stages) {
    StepCosts costs;
    for (const ClusterHost& host : cluster_.hosts) costs.simulation.host_cores.push_back(host.cores);
    for (size_t stage = 0; stage < stages.size(); ++stage) AddStage(static_cast<int>(stage), stages[stage], &costs);
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

  // Passes of the slowest worker, with the tensor group's sums.
  Passes SlowestPasses(int stage, const BlockRange& blocks, StepCosts* costs) const {
    Passes slowest;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      const Passes passes = StageSeconds(table_, blocks, work_, WorkerOf(at).rates);
      slowest.forward = std::max(slowest.forward, passes.forward);
      slowest.backward = std::max(slowest.backward, passes.backward);
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

  void AddExchange(int stage, const BlockRange& blocks, StageCosts* stage_costs, StepCosts* costs) const {
    const double elements = ElementsOfRank(table_, blocks, mesh_.tensor());
    const bool split = spec_.parallel().zero().stage() >= 1;
    const double owned = split ? elements / mesh_.data() : elements;
    // In ZeRO 0 data rank 0 takes in everybody's whole gradient, else each rank everybody's part.
    const double others = mesh_.data() - 1;
    const double data_bytes = kFloat * owned * others;
    const double memory = MemoryRate(WorkerOf({stage, 0, 0}).rates);
    // ZeRO 2 sums each micro-batch's gradients, the others a step's.
    const double sums = spec_.parallel().zero().stage() >= 2 ? MicroBatches(spec_) : 1;
    const double group = sums * GroupSeconds(stage, data_bytes);
    // Where the ranks update, the service gets its part off the critical path.
    const bool local = spec_.parallel().zero().placement() == v1::ZeroSpec::PLACEMENT_LOCAL;
    const double clear = kFloat * elements / memory;
    const double updated = local ? owned : static_cast<double>(table_.size()) / Shards();
    const double update = kUpdateBytesPerElement * updated / memory;
    // Weights travel in what is computed in, gradients in fp32.
    const double weight_bytes = static_cast<double>(BytesOf(work_.type));
    const double push = local ? 0 : ServiceSeconds(stage, owned, kFloat);
    const double pull = local ? 0 : ServiceSeconds(stage, owned, weight_bytes);
    const double correction = cluster_.correction.exchange;
    stage_costs->reduce_seconds = correction * (group + push + kServiceSeconds / 3);
    // The weights come back as far as the owner, then through the group.
    const double gather =
        GroupSeconds(stage, weight_bytes * (split ? owned * others : elements * (others > 0 ? 1 : 0)));
    stage_costs->optimizer_seconds = correction * (clear + update + pull + gather + 2 * kServiceSeconds / 3);
    costs->data_seconds = std::max(costs->data_seconds, correction * (group + gather));
    costs->service_seconds = std::max(costs->service_seconds, correction * (push + pull + update + kServiceSeconds));
    costs->data_bytes = std::max(costs->data_bytes, (kFloat + weight_bytes) * owned * others);
  }

  std::vector<HostLoad> Loads(int stage, const BlockRange& blocks) const {
    std::map<int, HostLoad> loads;
    VisitRanks(stage, [&](const MeshCoordinates& at) {
      const ClusterWorker& worker = WorkerOf(at);
      HostLoad& load = loads.try_emplace(worker.host, HostLoad{worker.host, 0, 0}).first->second;
      load.cores += worker.threads;
      load.exchange_cores += kExchangeCores;
    });
    // A shard works on what this stage pushes for its share of the whole.
    const double share = std::min(1.0, ElementsOfRank(table_, blocks, 1) / static_cast<double>(table_.size()));
    for (const int host : cluster_.shard_hosts) {
      loads.try_emplace(host, HostLoad{host, 0, 0}).first->second.exchange_cores += kExchangeCores * share;
    }
    std::vector<HostLoad> list;
    for (const auto& [host, load] : loads) list.push_back(load);
    return list;
  }

  void AddStage(int stage, const BlockRange& blocks, StepCosts* costs) const {
    StageCosts stage_costs;
    const Passes passes = SlowestPasses(stage, blocks, costs);
    stage_costs.forward_seconds = passes.forward;
    stage_costs.backward_seconds = passes.backward;
    AddExchange(stage, blocks, &stage_costs, costs);
    stage_costs.loads = Loads(stage, blocks);
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
