// The CUDA runtime's errors as statuses.
#ifndef PENSTOCK_WORKER_CUDA_STATUS_H_
#define PENSTOCK_WORKER_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace penstock::cuda {

// "WHAT: no CUDA-capable device is detected". RESOURCE_EXHAUSTED for memory, FAILED_PRECONDITION where there is no
// usable device or driver, INTERNAL for the rest. A sticky error (a kernel's bad access) comes back from every later
// call: the process must end then, as its context is lost.
absl::Status ToStatus(cudaError_t error, absl::string_view what);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_STATUS_H_
