// Cuts a model's blocks into pipeline stages.
#ifndef PENSTOCK_CORE_PLAN_PARTITION_H_
#define PENSTOCK_CORE_PLAN_PARTITION_H_

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/zero_partition.h"
#include "core/model/parameter_table.h"

namespace penstock {

// Cuts `costs` into `parts` consecutive runs of at least one element, so that the largest sum is as small as can be;
// among those the cut with the smallest sum of squares, and among those the one whose earlier parts are shorter (early
// stages keep more micro-batches in flight). Deterministic. Returns parts + 1 boundaries, from 0 to costs.size().
// INVALID_ARGUMENT unless 1 <= parts <= costs.size() and costs are finite and not negative.
absl::StatusOr<std::vector<int>> PartitionCosts(std::span<const double> costs, int parts);

// The blocks of each stage, by FLOPs of forward and backward. The embedding is always on the first stage and the head
// on the last, and each stage has at least one layer: `stages` is at most the number of layers, else INVALID_ARGUMENT.
absl::StatusOr<std::vector<BlockRange>> PartitionStages(const ParameterTable& table, int stages);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_PARTITION_H_
