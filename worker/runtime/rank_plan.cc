#include "worker/runtime/rank_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "core/plan/partition.h"
#include "core/plan/rank_parameters.h"
#include "core/schedule/schedule.h"
#include "core/schedule/validator.h"

namespace penstock {
namespace {

absl::Status CheckAssignment(const v1::Assignment& assignment, const Mesh& mesh) {
  if (assignment.peers_size() != mesh.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the assignment names ", assignment.peers_size(),
                                                   " ranks; the mesh ", mesh.ToString(), " has ", mesh.size()));
  }
  if (static_cast<int64_t>(assignment.rank()) >= mesh.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", assignment.rank(), " is outside the mesh of ", mesh.size()));
  }
  for (int i = 0; i < assignment.peers_size(); ++i) {
    if (static_cast<int64_t>(assignment.peers(i).rank()) != i) {
      return absl::InvalidArgumentError(
          absl::StrCat("peer ", i, " of the assignment is rank ", assignment.peers(i).rank()));
    }
  }
  if (assignment.shards_size() == 0) return absl::InvalidArgumentError("the assignment names no parameter shards");
  if (assignment.start_step() > assignment.spec().training().steps()) {
    return absl::InvalidArgumentError(absl::StrCat("the start step ", assignment.start_step(),
                                                   " is behind the last step ", assignment.spec().training().steps()));
  }
  return absl::OkStatus();
}

std::vector<Part> PartsOf(const ElementRange& memory) {
  if (memory.empty()) return {};
  return {Part{.begin = memory.begin, .count = memory.size()}};
}

}  // namespace

std::string RankPlan::Place() const {
  return absl::StrCat("stage ", at.stage, ", data rank ", at.data_rank,
                      mesh.tensor() > 1 ? absl::StrCat(", tensor rank ", at.tensor_rank) : "");
}

std::string RankPlan::NameOf(int other) const {
  if (other < 0 || other >= assignment.peers_size()) return absl::StrCat("rank ", other);
  return assignment.peers(other).worker_id();
}

absl::StatusOr<std::vector<Instruction>> RankPlan::Validation(int validation_micro_batches) const {
  PENSTOCK_ASSIGN_OR_RETURN(Schedule schedule,
                            BuildSchedule(ScheduleKind::kForwardOnly, mesh.pipeline(), validation_micro_batches));
  return std::move(schedule[at.stage]);
}

absl::StatusOr<RankPlan> MakeRankPlan(const v1::Assignment& assignment) {
  const v1::JobSpec& spec = assignment.spec();
  PENSTOCK_ASSIGN_OR_RETURN(const Mesh mesh, MeshOf(spec));
  PENSTOCK_RETURN_IF_ERROR(CheckAssignment(assignment, mesh));
  PENSTOCK_ASSIGN_OR_RETURN(ParameterTable table, ParameterTable::Create(spec.model()));
  const int rank = static_cast<int>(assignment.rank());
  const MeshCoordinates at = mesh.CoordinatesOf(rank);

  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<BlockRange> stages, PartitionStages(table, mesh.pipeline()));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<RankParameters> ranks,
                            ParametersOfRanks(table, stages, mesh, static_cast<int>(spec.parallel().zero().stage())));
  RankPlan plan{.assignment = assignment,
                .table = std::move(table),
                .mesh = mesh,
                .at = at,
                .parameters = ranks[rank].held,
                .owned = {},
                .data_group = mesh.DataGroup(rank),
                .tensor_group = mesh.TensorGroup(rank),
                .untied_parts = {},
                .tied_parts = {},
                .pushed = {},
                .micro_batches = MicroBatches(spec),
                .training = {},
                .slots = 0};
  for (const int peer : plan.data_group) {
    const OwnedRanges& owned = ranks[peer].owned;
    plan.owned.push_back(owned);
    plan.untied_parts.push_back(PartsOf(owned.untied_memory));
    plan.tied_parts.push_back(PartsOf(owned.tied_memory));
  }

  if (UpdatesLocally(spec)) plan.pushed = UpdatedRanges(ranks);

  PENSTOCK_ASSIGN_OR_RETURN(Schedule schedule,
                            BuildSchedule(ScheduleKindOf(spec), mesh.pipeline(), plan.micro_batches));
  PENSTOCK_RETURN_IF_ERROR(ValidateSchedule(schedule, plan.micro_batches));
  plan.slots = PeakActivations(schedule, at.stage);
  plan.training = std::move(schedule[at.stage]);
  return plan;
}

}  // namespace penstock
