// What the data-parallel part of a training step sends, from spec and table alone: the bytes by which ZeRO stages and
// placements differ. (Activations between stages and sums within layers don't depend on them.) A test beside the worker
// compares it with what its communicators and the shards count. Pure.
#ifndef PENSTOCK_CORE_PLAN_TRAFFIC_MODEL_H_
#define PENSTOCK_CORE_PLAN_TRAFFIC_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/zero_partition.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Bytes that one rank sends in one step, but for checkpoints and digests.
struct RankTraffic {
  // Reduce-scatter over the data group.
  int64_t gradients = 0;
  // All-gather over the data group, and from tensor rank 0 to its group.
  int64_t weights = 0;
  // Between the first and the last stage, for the tied parameter.
  int64_t tied = 0;
  // For the norm and the decision, where the ranks update.
  int64_t norm = 0;
  // To and from the parameter service: elements, without what frames them.
  int64_t pushed = 0;
  int64_t pulled = 0;

  // To other ranks.
  int64_t between_ranks() const { return gradients + weights + tied + norm; }
};

// In rank order. `spec` is sound, its mesh is `mesh`, `stages` are its stages' blocks, and `shards` of the parameter
// service hold its state.
absl::StatusOr<std::vector<RankTraffic>> TrafficOfRanks(const v1::JobSpec& spec, const ParameterTable& table,
                                                        const std::vector<BlockRange>& stages, const Mesh& mesh,
                                                        int shards);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_TRAFFIC_MODEL_H_
