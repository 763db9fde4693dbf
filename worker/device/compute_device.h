// What a worker computes on: `cpu`, or `cuda:N`, the N-th device as the CUDA driver counts them.
//
// Thread-safe.
#ifndef PENSTOCK_WORKER_DEVICE_COMPUTE_DEVICE_H_
#define PENSTOCK_WORKER_DEVICE_COMPUTE_DEVICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/ops/backend.h"

namespace penstock {

struct ComputeDevice {
  // -1: the CPU.
  int cuda = -1;
  // Of the CPU.
  int threads = 1;

  bool is_cuda() const { return cuda >= 0; }
  // "cpu" or "cuda:0": how the cluster calls it.
  std::string name() const;
};

// INVALID_ARGUMENT for anything but "cpu" and "cuda:N".
absl::StatusOr<ComputeDevice> ParseComputeDevice(const std::string& name, int threads);

// On the thread that is to use it. FAILED_PRECONDITION, with the reason, where this build or this machine can't.
absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(const ComputeDevice& device);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_DEVICE_COMPUTE_DEVICE_H_
