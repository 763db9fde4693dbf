// Communicator over NCCL, between GPUs. All buffers are memory of the rank's device.
//
// What it does beyond the interface's words, and where it differs:
// - Messages go through the lanes of the topology (nccl_topology.h), and only between ranks that have one:
//   INVALID_ARGUMENT for another peer or channel. A lane's receives are matched with its sends in order; a message of
//   another size isn't noticed here, so both sides must take it from the same plan.
// - Everything given to NCCL waits, on the device, for what `compute_stream` has at that moment: the tensor that is
//   sent is computed by then, and the buffer of a receive isn't in use any more. A Wait that returns has seen the
//   message on the host, so that kernels launched afterwards on any stream may use it.
// - Sums: `strict` adds in group order, the same bits as on every backend (grouped sends and receives and a kernel that
//   adds); `fast` takes ncclReduce and ncclAllReduce, which repeat their bits on an unchanged topology.
// - A destroyed or aborted rank looks to its peers like one whose process has ended: UNAVAILABLE, or a wait until the
//   coordinator aborts it.
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
  // Of each message and collective, as with Gloo.
  absl::Duration wait_timeout = absl::Minutes(10);
};

// "2.28.9", of the library that jobs will use. FAILED_PRECONDITION where there is none, or one that is too old.
absl::StatusOr<std::string> NcclVersion();

// Connect gives FAILED_PRECONDITION where there is no device or no NCCL.
std::unique_ptr<Connector> MakeNcclConnector(NcclConnectorOptions options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_
