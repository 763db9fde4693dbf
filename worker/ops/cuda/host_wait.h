// Where the host waits for the device: in one place, and counted, because each time costs the device a pause.
// Thread-safe.
#ifndef PENSTOCK_WORKER_OPS_CUDA_HOST_WAIT_H_
#define PENSTOCK_WORKER_OPS_CUDA_HOST_WAIT_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "worker/ops/host_wait.h"

namespace penstock::cuda {

// Until everything given to the stream is done. `what` begins the error. `wait` may be empty.
absl::Status WaitForStream(cudaStream_t stream, absl::string_view what, const HostWait& wait = {});

// Calls of it, in this process.
int64_t HostWaits();

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_HOST_WAIT_H_
