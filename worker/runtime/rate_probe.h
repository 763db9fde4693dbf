// How fast this worker computes: short runs of the model's own code, so that whatever makes a layer fast or slow shows
// in what the planner is told. Takes a fraction of a second. Each figure is the best of several runs, so that processes
// which measure beside each other disturb it little.
//
// Thread-safe; allocates some 50 MB and frees them. Computes on a thread of its own: the pool of threads that the
// operations start ends with it.
#ifndef PENSTOCK_WORKER_RUNTIME_RATE_PROBE_H_
#define PENSTOCK_WORKER_RUNTIME_RATE_PROBE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "worker/ops/backend.h"

namespace penstock {

// On the backend that `create` makes. `threads`: the CPU's that it computes with, 0 of another device.
absl::StatusOr<v1::WorkerRates> MeasureRates(int threads,
                                             const std::function<absl::StatusOr<std::unique_ptr<Backend>>()>& create);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RATE_PROBE_H_
