// What a step costs on given workers, in the terms of core/schedule/simulator.h: seconds of each pass and of the
// exchange, bytes on links, load on hosts. From the parameter table's FLOPs and sizes, the workers' measured rates, and
// constants for what isn't measured, each of which has its reason in cost_model.cc. Pure; a new model family needs
// nothing here.
#ifndef PENSTOCK_CORE_PLAN_COST_MODEL_H_
#define PENSTOCK_CORE_PLAN_COST_MODEL_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/zero_partition.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"
#include "core/plan/cluster.h"
#include "core/schedule/simulator.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

struct StepCosts {
  SimulationInput simulation;
  // With a mirror: what the parameter service replays beside the next step, as a forward pass of its own that takes
  // cores of ranks' and shards' hosts. The ranks wait for it before they begin another one, so that in the long run no
  // step is shorter (worker/runtime/mirror.h; the lag only evens steps out).
  std::optional<StageCosts> mirror;
  // For the reasons given: of a step and the slowest rank, when nobody else wants cores.
  double tensor_seconds = 0;
  double data_seconds = 0;
  double service_seconds = 0;
  // Bytes that a data rank exchanges with its group in a step, the busiest stage's.
  double data_bytes = 0;
};

// `spec` is sound and its mesh is `mesh`; `placed` is PlaceRanks(mesh), indices into cluster.workers.
StepCosts CostsOfStep(const v1::JobSpec& spec, const ParameterTable& table, const std::vector<BlockRange>& stages,
                      const Mesh& mesh, const ClusterProfile& cluster, const std::vector<int>& placed);

// Elements of the parameters of `blocks` that one of `tensor` ranks holds; the tied parameter counts where it is used.
double ElementsOfRank(const ParameterTable& table, const BlockRange& blocks, int tensor);

// One value of the rates at width `hidden`, interpolated between those that were measured.
double RateAt(const v1::ComputeRates& rates, double hidden, double (v1::ComputeRates::LayerRate::*rate)() const);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_COST_MODEL_H_
