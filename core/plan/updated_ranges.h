// Which elements of the canonical space each rank answers for: it pushes their gradients, or updates them itself
// (zero.placement local). Together they are the whole space, each element once. Pure.
#ifndef PENSTOCK_CORE_PLAN_UPDATED_RANGES_H_
#define PENSTOCK_CORE_PLAN_UPDATED_RANGES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/layout/zero_partition.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"

namespace penstock {

// By rank, each in the order of its memory, the tied ones (of the first stage) first. `stages`: each stage's blocks.
absl::StatusOr<std::vector<std::vector<ElementRange>>> UpdatedRanges(const ParameterTable& table,
                                                                     const std::vector<BlockRange>& stages,
                                                                     const Mesh& mesh, int zero_stage);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_UPDATED_RANGES_H_
