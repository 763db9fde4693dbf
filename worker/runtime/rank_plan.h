// Everything that follows from an assignment alone: what this rank is, what it holds, whom it talks to, and the lists
// of instructions that it executes. Immutable; safe to read from any thread.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_PLAN_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_PLAN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/zero_partition.h"
#include "core/mesh/mesh.h"
#include "core/model/parameter_table.h"
#include "core/schedule/instruction.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "worker/comm/communicator.h"

namespace penstock {

struct RankPlan {
  v1::Assignment assignment;
  ParameterTable table;
  Mesh mesh;
  MeshCoordinates at;
  // Of this rank's stage and tensor rank.
  StageParameters parameters;
  // What each data rank of its data group owns.
  std::vector<OwnedRanges> owned;
  // The data group's ranks, in data rank order, and the tensor group's, in tensor rank order.
  std::vector<int> data_group;
  std::vector<int> tensor_group;
  // `owned` as parts of the rank's untied and tied memory.
  std::vector<std::vector<Part>> untied_parts;
  std::vector<std::vector<Part>> tied_parts;

  // Where the ranks update the weights themselves (zero.placement local): the ranges that each rank of the mesh does,
  // in the order of its memory, the tied ones first. Empty otherwise.
  std::vector<std::vector<ElementRange>> pushed;

  int micro_batches = 0;
  std::vector<Instruction> training;
  // Micro-batches in flight in `training`.
  int slots = 0;

  const v1::JobSpec& spec() const { return assignment.spec(); }
  int rank() const { return static_cast<int>(assignment.rank()); }
  bool first_stage() const { return at.stage == 0; }
  bool last_stage() const { return at.stage == mesh.pipeline() - 1; }
  bool leader() const { return rank() == mesh.leader(); }
  const OwnedRanges& mine() const { return owned[at.data_rank]; }
  // ZeRO 2: gradients are reduced block by block, and only the owned part is kept.
  bool bucketed() const { return spec().parallel().zero().stage() == 2; }
  const std::vector<ElementRange>& updated() const { return pushed[rank()]; }
  // The rank in the same pipeline on another stage.
  int OnStage(int stage) const { return mesh.OnStage(rank(), stage); }
  // "stage 1, data rank 0, tensor rank 1"; without the tensor rank where there is no tensor parallelism.
  std::string Place() const;
  // True where this rank speaks for its tensor group, whose ranks have the same losses and samples.
  bool speaks() const { return at.tensor_rank == 0; }
  // The worker's id, for messages; "rank 3" where it isn't known.
  std::string NameOf(int rank) const;

  // The stage's list of a validation of `micro_batches` micro-batches.
  absl::StatusOr<std::vector<Instruction>> Validation(int validation_micro_batches) const;
};

// INVALID_ARGUMENT for an assignment that makes no sense: it can't help to try again.
absl::StatusOr<RankPlan> MakeRankPlan(const v1::Assignment& assignment);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_PLAN_H_
