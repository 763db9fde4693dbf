// In builds without the CUDA toolkit.
#include "absl/status/status.h"
#include "worker/ops/cuda/cuda_backend.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaBackendOptions&) {
  return absl::FailedPreconditionError("this worker was built without CUDA: nvcc wasn't found when it was");
}

}  // namespace penstock
