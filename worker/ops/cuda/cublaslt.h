// Matrix products through cuBLASLt, whose library is opened when the first backend needs it.
#ifndef PENSTOCK_WORKER_OPS_CUDA_CUBLASLT_H_
#define PENSTOCK_WORKER_OPS_CUDA_CUBLASLT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/cuda/matmul.h"

namespace penstock::cuda {

// On the current device. `choice`: which of the library's suggestions is taken, the best by its heuristic being 0; the
// last where there aren't as many. FAILED_PRECONDITION where the machine has no cuBLASLt of this build's major version.
absl::StatusOr<std::unique_ptr<MatmulFactory>> CreateCublasLt(int choice = 0);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_CUBLASLT_H_
