#include "core/plan/updated_ranges.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/layout/tensor_shard.h"

namespace penstock {

absl::StatusOr<std::vector<std::vector<ElementRange>>> UpdatedRanges(const ParameterTable& table,
                                                                     const std::vector<BlockRange>& stages,
                                                                     const Mesh& mesh, int zero_stage) {
  std::vector<std::vector<ElementRange>> updated;
  for (int rank = 0; rank < mesh.size(); ++rank) {
    const MeshCoordinates at = mesh.CoordinatesOf(rank);
    PENSTOCK_ASSIGN_OR_RETURN(const StageParameters parameters,
                              ParametersOfStage(table, stages[static_cast<size_t>(at.stage)],
                                                TensorShard{.degree = mesh.tensor(), .rank = at.tensor_rank}));
    PENSTOCK_ASSIGN_OR_RETURN(const OwnedRanges owned, OwnedBy(parameters, zero_stage, mesh.data(), at.data_rank));
    std::vector<ElementRange> ranges;
    if (parameters.first) ranges = owned.tied.ranges();
    for (const ElementRange& range : owned.untied.ranges()) ranges.push_back(range);
    updated.push_back(std::move(ranges));
  }
  return updated;
}

}  // namespace penstock
