// A Backend of the device's kernels, on any source of matrix products. Private to ops/cuda and its tests.
#ifndef PENSTOCK_WORKER_OPS_CUDA_DEVICE_OPERATIONS_H_
#define PENSTOCK_WORKER_OPS_CUDA_DEVICE_OPERATIONS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/ops/backend.h"
#include "worker/ops/cuda/matmul.h"

namespace penstock::cuda {

// RESOURCE_EXHAUSTED where the device has no memory left.
absl::StatusOr<std::unique_ptr<Backend>> MakeDeviceOperations(std::string description,
                                                              std::unique_ptr<MatmulFactory> matmuls);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_DEVICE_OPERATIONS_H_
