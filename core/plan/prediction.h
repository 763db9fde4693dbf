// What a job would do on a mesh: its stages, the bytes of every rank, the time of a step. Pure and deterministic.
#ifndef PENSTOCK_CORE_PLAN_PREDICTION_H_
#define PENSTOCK_CORE_PLAN_PREDICTION_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/plan/cluster.h"
#include "core/plan/cost_model.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Stages times micro-batches that are simulated; what is beyond is extrapolated.
inline constexpr int kSimulatedCellsMax = 1 << 11;

struct Prediction {
  v1::MeshPlan plan;
  // Of a step: what the leader spends in its passes, with what it waits for cores within them.
  double leader_compute_seconds = 0;
  // ... and in sums, pushes, commit and pull, or waiting for its mirror.
  double leader_exchange_seconds = 0;
  // Under which it was made.
  CostCorrection correction;
  // Rank that lacks the most memory: then the plan has no times. -1 where all fit or nothing is known of memory.
  int short_of_memory = -1;
  // Of that rank: whether it is its machine's memory that it lacks, beside its GPU's, what it needs and may have there.
  bool short_on_host = false;
  double short_bytes = 0;
  double short_available_bytes = 0;
  StepCosts costs;
};

// `spec` is sound and its mesh is given; `placed` has for each rank an index into cluster.workers (PlaceRanks).
// INVALID_ARGUMENT for a mesh that can't be.
absl::StatusOr<Prediction> Predict(const v1::JobSpec& spec, const ClusterProfile& cluster,
                                   const std::vector<int>& placed);

// "3.2 GB".
std::string GigabytesText(double bytes);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_PREDICTION_H_
