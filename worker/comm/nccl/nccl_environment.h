// Variables of the environment that change how CUDA or NCCL queues work. With some of them a rank whose device waits
// for a message can't give it anything else, and the job is stuck for no reason that anybody sees.
//
// Thread-safe: free functions.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_ENVIRONMENT_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_ENVIRONMENT_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace penstock {

// FAILED_PRECONDITION names the variable and what to do, where NCCL's messages between this rank's `streams` can't be
// relied on. `variable` is std::getenv, or a test's.
absl::Status CheckNcclEnvironment(int streams, absl::FunctionRef<const char*(const char*)> variable);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_ENVIRONMENT_H_
