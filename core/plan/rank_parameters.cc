#include "core/plan/rank_parameters.h"

#include <cstddef>
#include <utility>

#include "core/base/status_macros.h"
#include "core/layout/tensor_shard.h"

namespace penstock {

std::vector<ElementRange> RankParameters::updated() const {
  std::vector<ElementRange> ranges;
  if (held.first) ranges = owned.tied.ranges();
  for (const ElementRange& range : owned.untied.ranges()) ranges.push_back(range);
  return ranges;
}

absl::StatusOr<std::vector<RankParameters>> ParametersOfRanks(const ParameterTable& table,
                                                              const std::vector<BlockRange>& stages, const Mesh& mesh,
                                                              int zero_stage) {
  std::vector<RankParameters> ranks;
  for (int rank = 0; rank < mesh.size(); ++rank) {
    const MeshCoordinates at = mesh.CoordinatesOf(rank);
    RankParameters parameters;
    PENSTOCK_ASSIGN_OR_RETURN(parameters.held,
                              ParametersOfStage(table, stages[static_cast<size_t>(at.stage)],
                                                TensorShard{.degree = mesh.tensor(), .rank = at.tensor_rank}));
    PENSTOCK_ASSIGN_OR_RETURN(parameters.owned, OwnedBy(parameters.held, zero_stage, mesh.data(), at.data_rank));
    ranks.push_back(std::move(parameters));
  }
  return ranks;
}

std::vector<std::vector<ElementRange>> UpdatedRanges(const std::vector<RankParameters>& ranks) {
  std::vector<std::vector<ElementRange>> updated;
  for (const RankParameters& rank : ranks) updated.push_back(rank.updated());
  return updated;
}

}  // namespace penstock
