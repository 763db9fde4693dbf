// The operations on a CUDA device: cuBLASLt for matrix products, our own kernels for the rest.
//
// Deterministic: on one kind of device, with the same libraries, the same call gives the same bits.
#ifndef PENSTOCK_WORKER_OPS_CUDA_CUDA_BACKEND_H_
#define PENSTOCK_WORKER_OPS_CUDA_CUDA_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/backend.h"

namespace penstock {

struct CudaBackendOptions {
  int device = 0;
  // Which of cuBLASLt's suggestions for a product is taken: for benchmarks, to see what its first one leaves.
  int product_choice = 0;
};

// Makes the device the calling thread's current one; another thread that runs the operations does so itself.
// FAILED_PRECONDITION, with the reason, where this build or this machine can't.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaBackendOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CUDA_CUDA_BACKEND_H_
