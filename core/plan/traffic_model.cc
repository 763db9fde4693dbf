#include "core/plan/traffic_model.h"

#include <cstddef>
#include <set>

#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "core/layout/norm_plan.h"
#include "core/layout/shard_ranges.h"
#include "core/plan/job_facts.h"
#include "core/plan/rank_parameters.h"

namespace penstock {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);
// A piece's sum, and the decision that everyone gets: worker/runtime/gradient_norm.h.
constexpr int64_t kSumBytes = sizeof(double);
constexpr int64_t kDecisionBytes = 24;

RankTraffic OfRank(const v1::JobSpec& spec, const Mesh& mesh, const RankParameters& rank) {
  const StageParameters& parameters = rank.held;
  const OwnedRanges& owned = rank.owned;
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
  if (!IsPublished(spec)) traffic.pushed = kFloatBytes * TotalSize(rank.updated());
  if (!local) traffic.pulled = weight_bytes * owned.size();
  return traffic;
}

// A mirror's ranks don't want weights, but know that a step is committed when they get an element of its version from
// each shard that they push to. The leader, who commits, knows without.
void AddMirrorAwaits(const std::vector<RankParameters>& parameters, const ShardRanges& shards, const Mesh& mesh,
                     std::vector<RankTraffic>* ranks) {
  for (int rank = 0; rank < mesh.size(); ++rank) {
    if (rank == mesh.leader()) continue;
    std::set<int> pushed_to;
    for (const ElementRange& range : parameters[static_cast<size_t>(rank)].updated()) {
      for (const ShardPart& part : shards.Cut(range)) pushed_to.insert(part.shard);
    }
    (*ranks)[static_cast<size_t>(rank)].pulled += kFloatBytes * static_cast<int64_t>(pushed_to.size());
  }
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
                                                        const std::vector<BlockRange>& stages, const Mesh& mesh,
                                                        int shards) {
  PENSTOCK_ASSIGN_OR_RETURN(const ShardRanges shard_ranges, ShardRanges::Create(table.size(), shards));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<RankParameters> parameters,
                            ParametersOfRanks(table, stages, mesh, static_cast<int>(spec.parallel().zero().stage())));
  std::vector<RankTraffic> ranks;
  for (const RankParameters& rank : parameters) ranks.push_back(OfRank(spec, mesh, rank));
  if (UpdatesLocally(spec)) {
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<NormPiece> pieces, PlanNorm(table.size(), UpdatedRanges(parameters)));
    AddNorm(pieces, mesh, &ranks);
    if (!IsPublished(spec)) AddMirrorAwaits(parameters, shard_ranges, mesh, &ranks);
  }
  return ranks;
}

}  // namespace penstock
