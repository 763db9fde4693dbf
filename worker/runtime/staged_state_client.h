// A StateClient for ranges in memory that the host can't touch: what is pushed and pulled goes through pinned host
// memory, which grows to the largest push or pull and stays.
//
// Thread-safety: Push and Pull are the rank's thread's; the rest may come from any, as the inner one's.
#ifndef PENSTOCK_WORKER_RUNTIME_STAGED_STATE_CLIENT_H_
#define PENSTOCK_WORKER_RUNTIME_STAGED_STATE_CLIENT_H_

#include <memory>

#include "worker/ops/backend.h"
#include "worker/runtime/state_client.h"

namespace penstock {

// Both outlive it.
std::unique_ptr<StateClient> StageThroughHost(StateClient* inner, Backend* backend);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_STAGED_STATE_CLIENT_H_
