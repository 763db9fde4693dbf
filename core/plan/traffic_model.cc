#include "core/plan/traffic_model.h"

#include <utility>

#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "core/layout/norm_plan.h"
#include "core/layout/tensor_shard.h"
#include "core/plan/job_facts.h"
#include "core/plan/updated_ranges.h"

namespace penstock {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);
// A piece's sum, and the decision that everyone gets: worker/runtime/gradient_norm.h.
constexpr int64_t kSumBytes = sizeof(double);
constexpr int64_t kDecisionBytes = 24;

RankTraffic OfRank(const v1::JobSpec& spec, const Mesh& mesh, const StageParameters& parameters,
                   const OwnedRanges& owned) {
  const bool local = UpdatesLocally(spec);
  const int64_t weight_bytes = BytesOf(ComputeType(spec));
  RankTraffic traffic;
  // What others own of the rank's gradients goes to them: once a step, or with every micro-batch.
  const int tied_uses = (parameters.first ? 1 : 0) + (parameters.last ? 1 : 0);
  const int64_t others = parameters.untied_answered().size() - owned.untied.size() +
                         tied_uses * (parameters.tied.size() - owned.tied.size());
  const int64_t times = spec.parallel().zero().stage() == 2 ? MicroBatches(spec) : 1;
  if (mesh.data() > 1) traffic.gradients = kFloatBytes * times * others;
  traffic.weights = weight_bytes * owned.size() * (mesh.data() - 1);
  if (parameters.tensor.rank == 0) traffic.weights += weight_bytes * parameters.shared * (mesh.tensor() - 1);
  if (mesh.pipeline() > 1) {
    // The last stage sends its gradient; what is updated on the first comes back.
    if (parameters.last) traffic.tied = kFloatBytes * owned.tied.size();
    if (parameters.first && local) traffic.tied = weight_bytes * owned.tied.size();
  }
  if (local && IsPublished(spec)) return traffic;
  traffic.pushed = kFloatBytes * (owned.untied.size() + (parameters.first ? owned.tied.size() : 0));
  if (!local) traffic.pulled = weight_bytes * owned.size();
  return traffic;
}

void AddNorm(const std::vector<NormPiece>& pieces, const Mesh& mesh, std::vector<RankTraffic>* ranks) {
  for (const NormPiece& piece : pieces) {
    for (const NormFragment& fragment : piece.fragments) {
      if (fragment.rank == piece.home) continue;
      (*ranks)[static_cast<size_t>(fragment.rank)].norm += kFloatBytes * fragment.range.size();
    }
    if (piece.home != mesh.leader()) (*ranks)[static_cast<size_t>(piece.home)].norm += kSumBytes;
  }
  (*ranks)[static_cast<size_t>(mesh.leader())].norm += kDecisionBytes * (mesh.size() - 1);
}

}  // namespace

absl::StatusOr<std::vector<RankTraffic>> TrafficOfRanks(const v1::JobSpec& spec, const ParameterTable& table,
                                                        const std::vector<BlockRange>& stages, const Mesh& mesh) {
  const int zero_stage = static_cast<int>(spec.parallel().zero().stage());
  std::vector<RankTraffic> ranks;
  for (int rank = 0; rank < mesh.size(); ++rank) {
    const MeshCoordinates at = mesh.CoordinatesOf(rank);
    PENSTOCK_ASSIGN_OR_RETURN(const StageParameters parameters,
                              ParametersOfStage(table, stages[static_cast<size_t>(at.stage)],
                                                TensorShard{.degree = mesh.tensor(), .rank = at.tensor_rank}));
    PENSTOCK_ASSIGN_OR_RETURN(const OwnedRanges owned, OwnedBy(parameters, zero_stage, mesh.data(), at.data_rank));
    ranks.push_back(OfRank(spec, mesh, parameters, owned));
  }
  if (UpdatesLocally(spec)) {
    PENSTOCK_ASSIGN_OR_RETURN(const auto updated, UpdatedRanges(table, stages, mesh, zero_stage));
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<NormPiece> pieces, PlanNorm(table.size(), updated));
    AddNorm(pieces, mesh, &ranks);
  }
  return ranks;
}

}  // namespace penstock
