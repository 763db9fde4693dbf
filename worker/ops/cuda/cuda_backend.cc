#include "worker/ops/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/cuda/device.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/cublaslt.h"
#include "worker/ops/cuda/device_operations.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaBackendOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const cuda::DeviceFacts facts, cuda::QueryDevice(options.device));
  PENSTOCK_RETURN_IF_ERROR(cuda::ToStatus(cudaSetDevice(options.device), absl::StrCat("cuda:", options.device)));
  // Makes the context where there is none yet, and has the error of one that a fault has ended.
  PENSTOCK_RETURN_IF_ERROR(cuda::ToStatus(cudaFree(nullptr), absl::StrCat("cuda:", options.device)));
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<cuda::MatmulFactory> matmuls, cuda::CreateCublasLt(options.product_choice));
  return cuda::MakeDeviceOperations(absl::StrCat("cuda:", options.device, ", ", cuda::Describe(facts)),
                                    std::move(matmuls));
}

}  // namespace penstock
