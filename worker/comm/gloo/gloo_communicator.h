// Communicator over TCP, with Gloo's unbound buffers as the point-to-point layer (Debian's Gloo can abort nothing
// else).
//
// A device is one listening address with its event loop; a process makes one and uses it for every epoch. For each
// epoch a connector exchanges addresses through a Rendezvous and connects a full mesh of pairs.
//
// Left to Gloo: where a peer's process ends in the very microseconds between a connection and Gloo's look at its
// address, Gloo's thread throws and takes this process with it. For the coordinator that is one more lost worker.
//
//   PENSTOCK_ASSIGN_OR_RETURN(auto device, GlooDevice::Create("10.0.0.7"));
//   auto connector = MakeGlooConnector({.device = device, .rendezvous = rendezvous, .rank = 2, .size = 4});
//   PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm, connector->Connect());
#ifndef PENSTOCK_WORKER_COMM_GLOO_GLOO_COMMUNICATOR_H_
#define PENSTOCK_WORKER_COMM_GLOO_GLOO_COMMUNICATOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/connector.h"
#include "worker/comm/gloo/gloo_device.h"
#include "worker/comm/rendezvous.h"

namespace penstock {

struct GlooConnectorOptions {
  std::shared_ptr<GlooDevice> device;
  std::shared_ptr<Rendezvous> rendezvous;
  int rank = 0;
  int size = 1;
  // Names of the ranks for messages ("worker-3"); may be empty.
  std::vector<std::string> names;
  // Until all peers have come and are connected.
  absl::Duration connect_timeout = absl::Minutes(1);
  // Of each message. It is what notices a host that is lost without a word, where no lease does so earlier, so it only
  // has to be longer than any honest wait: a pipeline's fill with big stages.
  absl::Duration wait_timeout = absl::Minutes(10);
};

std::unique_ptr<Connector> MakeGlooConnector(GlooConnectorOptions options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_GLOO_GLOO_COMMUNICATOR_H_
