#include "worker/runtime/rank_topology.h"

#include <set>

#include "worker/runtime/executor.h"

namespace penstock {
namespace {

bool IsActivation(Op op) { return op == Op::kSendActivation || op == Op::kRecvActivation; }

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
    lanes.insert({plan.OnStage(last), plan.OnStage(0), ChannelOf(kTiedGradientTag)});
  }
  NcclTopology topology;
  topology.lanes.assign(lanes.begin(), lanes.end());
  if (plan.data_group.size() > 1) topology.groups.push_back(plan.data_group);
  return topology;
}

}  // namespace penstock
