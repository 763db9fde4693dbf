#include "worker/runtime/rank_topology.h"

#include <set>

#include "core/base/status_macros.h"
#include "core/layout/norm_plan.h"
#include "core/plan/job_facts.h"
#include "worker/runtime/executor.h"

namespace penstock {
namespace {

bool IsActivation(Op op) { return op == Op::kSendActivation || op == Op::kRecvActivation; }

// Fragments of the norm's pieces go to the rank where the piece is at home.
void AddNormLanes(const RankPlan& plan, std::set<NcclLane>* lanes) {
  if (!UpdatesLocally(plan.spec()) || OffloadsGradients(plan.spec())) return;
  const auto pieces = PlanNorm(plan.table.size(), plan.pushed);
  PENSTOCK_CHECK(pieces.ok());  // as the rank's GradientNorm, which was made of the same
  for (const NormPiece& piece : *pieces) {
    for (const NormFragment& fragment : piece.fragments) {
      if (fragment.rank == piece.home || (fragment.rank != plan.rank() && piece.home != plan.rank())) continue;
      lanes->insert({fragment.rank, piece.home, ChannelOf(kNormFragmentTag)});
    }
  }
}

}  // namespace

NcclTopology TopologyOf(const RankPlan& plan) {
  std::set<NcclLane> lanes;
  const int self = plan.rank();
  for (const Instruction& instruction : plan.training) {
    if (!IsSend(instruction.op) && !IsRecv(instruction.op)) continue;
    const int peer = plan.OnStage(instruction.peer_stage);
    const uint32_t channel = ChannelOf(IsActivation(instruction.op) ? kActivationTag : kGradientTag);
    lanes.insert(IsSend(instruction.op) ? NcclLane{self, peer, channel} : NcclLane{peer, self, channel});
  }
  const int last = plan.mesh.pipeline() - 1;
  if (last > 0 && (plan.first_stage() || plan.last_stage()) && !plan.mine().tied.empty()) {
    if (!OffloadsGradients(plan.spec())) {
      lanes.insert({plan.OnStage(last), plan.OnStage(0), ChannelOf(kTiedGradientTag)});
    }
    // Where the ranks update, the new weights take the way back.
    if (UpdatesLocally(plan.spec())) lanes.insert({plan.OnStage(0), plan.OnStage(last), ChannelOf(kTiedWeightsTag)});
  }
  AddNormLanes(plan, &lanes);
  NcclTopology topology;
  topology.lanes.assign(lanes.begin(), lanes.end());
  if (plan.data_group.size() > 1) topology.groups.push_back(plan.data_group);
  if (plan.tensor_group.size() > 1) topology.groups.push_back(plan.tensor_group);
  return topology;
}

}  // namespace penstock
