// Communicator over NCCL, between GPUs. All buffers are memory of the rank's device.
//
// What it does beyond the interface's words, and where it differs:
// - Messages go through the lanes of the topology (nccl_topology.h), and only between ranks that have one:
//   INVALID_ARGUMENT for another peer or channel. A lane's receives are matched with its sends in order; a message of
//   another size isn't noticed here, so both sides must take it from the same plan.
// - The device keeps the order (nccl_order.h): what is given to NCCL waits for what `compute_stream` has at that
// moment,
//   and `compute_stream` waits for it from Transfer::Wait, or from the end of a collective, on. The host waits in
//   Barrier, in Connect, and where the rest of the rank waits for the device with HostWait.
// - Sums: `strict` adds in group order, the same bits as on every backend (grouped sends and receives and a kernel that
//   adds); `fast` takes ncclReduce and ncclAllReduce, which repeat their bits on an unchanged topology.
// - The object is destroyed by the thread that made it. A destroyed rank looks to its peers like one whose process has
// ended: UNAVAILABLE, or a wait until
//   the coordinator aborts it.
//
// The process must have set CUDA_DEVICE_MAX_CONNECTIONS=32 and CUDA_MODULE_LOADING=EAGER before its first CUDA call
// (cuda::PrepareEnvironment): with fewer hardware queues than streams a lane could wait behind another one's message,
// and a kernel that is loaded late waits for kernels that wait for their peers.
//
//   auto connector = MakeNcclConnector({.rendezvous = rendezvous, .rank = 2, .size = 4, .topology = topology});
//   PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm, connector->Connect());
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/connector.h"
#include "worker/comm/nccl/nccl_topology.h"
#include "worker/comm/rendezvous.h"

namespace penstock {

struct NcclConnectorOptions {
  std::shared_ptr<Rendezvous> rendezvous;
  int rank = 0;
  int size = 1;
  // Of the CUDA device, as the process counts them.
  int device = 0;
  // The stream that computes; null is the default stream. It outlives the Communicator.
  void* compute_stream = nullptr;
  NcclTopology topology;
  bool fast_sums = false;
  // Names of the ranks for messages ("worker-3"); may be empty.
  std::vector<std::string> names;
  // Until all channels are connected.
  absl::Duration connect_timeout = absl::Minutes(1);
  // Of each message and collective, as with Gloo: how long the device may wait for one of them before a host that waits
  // for the device gives up.
  absl::Duration wait_timeout = absl::Minutes(10);
};

// "2.28.9", of the library that jobs will use. FAILED_PRECONDITION where there is none, or one that is too old.
absl::StatusOr<std::string> NcclVersion();

// Connect gives FAILED_PRECONDITION where there is no device or no NCCL.
std::unique_ptr<Connector> MakeNcclConnector(NcclConnectorOptions options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_
