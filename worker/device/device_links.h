// Whether the ranks of an assignment can talk from GPU to GPU over NCCL: all of them have one, no two of them the same
// one (which NCCL refuses), and one version of NCCL. A pure function of what all ranks are told alike.
#ifndef PENSTOCK_WORKER_DEVICE_DEVICE_LINKS_H_
#define PENSTOCK_WORKER_DEVICE_DEVICE_LINKS_H_

#include <set>
#include <string>
#include <utility>

#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

inline bool LinkedByNccl(const v1::Assignment& assignment) {
  std::set<std::pair<std::string, std::string>> devices;
  for (const v1::Peer& peer : assignment.peers()) {
    if (!peer.device().starts_with("cuda:") || peer.nccl().empty() || peer.nccl() != assignment.peers(0).nccl() ||
        !devices.emplace(peer.host_id(), peer.pci_bus_id().empty() ? peer.device() : peer.pci_bus_id()).second) {
      return false;
    }
  }
  return !devices.empty();
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_DEVICE_DEVICE_LINKS_H_
