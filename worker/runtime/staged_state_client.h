// A StateClient for ranges in memory that the host can't touch: what is pushed and pulled goes through pinned host
// memory, a bounded run at a time. There is room for two runs, so that the device copies one while the other is on its
// way to the shards or from them.
//
// Thread-safety: Push and Pull are the rank's thread's; the rest may come from any, as the inner one's.
#ifndef PENSTOCK_WORKER_RUNTIME_STAGED_STATE_CLIENT_H_
#define PENSTOCK_WORKER_RUNTIME_STAGED_STATE_CLIENT_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/plan/memory_class.h"
#include "worker/ops/backend.h"
#include "worker/runtime/state_client.h"

namespace penstock {

// Both outlive it. `bytes`: of the largest push or pull, for which there is pinned memory from the beginning,
// `bytes_max` at most. (Where one is larger after all, it grows, and that may wait for all that the device has.)
absl::StatusOr<std::unique_ptr<StateClient>> StageThroughHost(StateClient* inner, Backend* backend, int64_t bytes,
                                                              int64_t bytes_max = kStagedBytesMax);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_STAGED_STATE_CLIENT_H_
