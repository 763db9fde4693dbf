// Links over an emulated NCCL, for tests of ranks that are threads of one process, each with an emulated device.
#ifndef PENSTOCK_WORKER_RUNTIME_EMULATED_LINKS_H_
#define PENSTOCK_WORKER_RUNTIME_EMULATED_LINKS_H_

#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "worker/comm/connector.h"
#include "worker/runtime/rank_plan.h"

namespace penstock {

// For Options::connect_devices, of one epoch. The calling thread's device is the rank's.
std::function<std::unique_ptr<Connector>(const RankPlan&)> EmulatedNcclLinks(
    absl::Duration wait_timeout = absl::Seconds(60));

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_EMULATED_LINKS_H_
