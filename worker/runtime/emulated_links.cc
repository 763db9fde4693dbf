#include "worker/runtime/emulated_links.h"

#include <utility>

#include "worker/comm/fake/rendezvous.h"
#include "worker/comm/nccl/nccl_communicator.h"
#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/rank_topology.h"

namespace penstock {

std::function<std::unique_ptr<Connector>(const RankPlan&)> EmulatedNcclLinks(absl::Duration wait_timeout) {
  auto store = std::make_shared<FakeRendezvousStore>();
  return [store, wait_timeout](const RankPlan& plan) {
    NcclConnectorOptions options;
    options.rendezvous = std::make_shared<FakeRendezvous>(store);
    options.rank = plan.rank();
    options.size = plan.mesh.size();
    options.device = EmulatedDeviceOfThread();
    options.topology = TopologyOf(plan);
    options.wait_timeout = wait_timeout;
    for (const v1::Peer& peer : plan.assignment.peers()) options.names.push_back(peer.worker_id());
    return MakeNcclConnector(std::move(options));
  };
}

}  // namespace penstock
