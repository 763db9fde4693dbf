// What every rank of a mesh holds of a model's parameters, and what of that it owns. Pure; values.
#ifndef PENSTOCK_CORE_PLAN_RANK_PARAMETERS_H_
#define PENSTOCK_CORE_PLAN_RANK_PARAMETERS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/layout/zero_partition.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"

namespace penstock {

struct RankParameters {
  StageParameters held;
  OwnedRanges owned;

  // What the rank pushes the gradients of, or updates: all that it owns, but of the tied parameter, for which the first
  // stage answers. In the order of its memory, the tied ones first.
  std::vector<ElementRange> updated() const;
};

// In rank order. `stages`: the blocks of each of the mesh's stages. The errors of ParametersOfStage and OwnedBy.
absl::StatusOr<std::vector<RankParameters>> ParametersOfRanks(const ParameterTable& table,
                                                              const std::vector<BlockRange>& stages, const Mesh& mesh,
                                                              int zero_stage);

// RankParameters::updated() of each.
std::vector<std::vector<ElementRange>> UpdatedRanges(const std::vector<RankParameters>& ranks);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_RANK_PARAMETERS_H_
