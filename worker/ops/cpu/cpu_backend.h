// The CPU's operations: oneDNN for matrix products, own kernels on OpenMP threads for the rest, fp32 or bf16.
//
// Deterministic: on one machine and with one thread count the same call gives the same bits; apart from oneDNN's
// products the number of threads doesn't show either, because work is cut so that each sum is made by one thread.
#ifndef PENSTOCK_WORKER_OPS_CPU_CPU_BACKEND_H_
#define PENSTOCK_WORKER_OPS_CPU_CPU_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/backend.h"

namespace penstock {

struct CpuBackendOptions {
  // Threads that compute, the caller's included. libgomp keeps a pool for each calling thread: a process has one pool
  // as long as one thread runs the stages.
  int threads = 1;
};

// INVALID_ARGUMENT unless 1 <= threads <= 1024.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuBackendOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CPU_CPU_BACKEND_H_
