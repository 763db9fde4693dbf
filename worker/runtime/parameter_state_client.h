// StateClient over services/parameter's client.
#ifndef PENSTOCK_WORKER_RUNTIME_PARAMETER_STATE_CLIENT_H_
#define PENSTOCK_WORKER_RUNTIME_PARAMETER_STATE_CLIENT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_client.h"

namespace penstock {

// Of the assignment's job, epoch and shards. INVALID_ARGUMENT for an assignment that makes no sense. Connects when it
// is first used.
absl::StatusOr<std::unique_ptr<StateClient>> CreateParameterStateClient(const RankPlan& plan);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_PARAMETER_STATE_CLIENT_H_
