// Makes a connected Communicator for one epoch: the seam between the runtime and a backend.
//
// One object serves one epoch. Thread-safety: Connect on one thread, once; Abort from any thread, before, during or
// after it, ends it at once.
#ifndef PENSTOCK_WORKER_COMM_CONNECTOR_H_
#define PENSTOCK_WORKER_COMM_CONNECTOR_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace penstock {

class Connector {
 public:
  virtual ~Connector() = default;

  // Connects to every other rank. DEADLINE_EXCEEDED names the ranks that didn't come (PeerOf: the first of them).
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Connect() = 0;

  // Ends Connect with `reason`. Doesn't touch a Communicator that was made already.
  virtual void Abort(absl::Status reason) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_CONNECTOR_H_
