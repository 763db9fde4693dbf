// The NCCL communicators that a rank's plan needs: a lane for each neighbour and direction that its lists name, the
// tied gradient's lane, and the groups of its collectives; where the ranks update, lanes for the tied weights and for
// fragments of the norm's pieces. Both ends of a lane find it in their own plans.
//
// Loss reports, sums of squares and decisions aren't in it, nor what is sent of gradients that are offloaded: they are in
// host memory, and go over Gloo.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_TOPOLOGY_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_TOPOLOGY_H_

#include "worker/comm/nccl/nccl_topology.h"
#include "worker/runtime/rank_plan.h"

namespace penstock {

NcclTopology TopologyOf(const RankPlan& plan);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_TOPOLOGY_H_
