// How fast this worker computes: short runs of the model's own code, so that whatever makes a layer fast or slow shows
// in what the planner is told. Takes a fraction of a second. Each figure is the best of several runs, so that processes
// which measure beside each other disturb it little.
//
// Thread-safe; allocates some 50 MB and frees them. Computes on a thread of its own: the pool of threads that the
// operations start ends with it.
#ifndef PENSTOCK_WORKER_RUNTIME_RATE_PROBE_H_
#define PENSTOCK_WORKER_RUNTIME_RATE_PROBE_H_

#include "absl/status/statusor.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// With `threads` threads, as in CpuBackendOptions.
absl::StatusOr<v1::WorkerRates> MeasureRates(int threads);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RATE_PROBE_H_
