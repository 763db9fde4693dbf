// How the host waits for a device, where what the device waits for itself may never come: the messages of other ranks.
#ifndef PENSTOCK_WORKER_OPS_HOST_WAIT_H_
#define PENSTOCK_WORKER_OPS_HOST_WAIT_H_

#include <functional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

// Asks `done`, which never blocks, until it says true, and ends with its error; or else with what says that it never
// will: an abort, a lost peer, a message that is too late. From any thread.
using HostWait = std::function<absl::Status(absl::FunctionRef<absl::StatusOr<bool>()> done)>;

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_HOST_WAIT_H_
