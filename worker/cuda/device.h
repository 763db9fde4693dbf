// The CUDA device that a worker computes on.
#ifndef PENSTOCK_WORKER_CUDA_DEVICE_H_
#define PENSTOCK_WORKER_CUDA_DEVICE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock::cuda {

struct DeviceFacts {
  std::string name;  // "NVIDIA H200"
  int compute_major = 0;
  int compute_minor = 0;
  int multiprocessors = 0;
  int64_t shared_bytes_per_block_max = 0;  // with the opt-in attribute
  int64_t memory_bytes = 0;
  int driver_version = 0;   // 13000: what the driver supports
  int runtime_version = 0;  // 13000: what this build has
};

// FAILED_PRECONDITION where the machine has no such device or no driver, with the reason. Safe on every machine: the
// run-time library is linked statically and looks for the driver when it is first called.
absl::StatusOr<DeviceFacts> QueryDevice(int device);

// "NVIDIA H200, sm_90, 139.8 GiB, CUDA 13.0 (driver 13.0)".
std::string Describe(const DeviceFacts& facts);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_DEVICE_H_
