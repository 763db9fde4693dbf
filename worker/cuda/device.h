// The CUDA device that a worker computes on.
#ifndef PENSTOCK_WORKER_CUDA_DEVICE_H_
#define PENSTOCK_WORKER_CUDA_DEVICE_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock::cuda {

struct DeviceFacts {
  std::string name;  // "NVIDIA H200"
  // Which one it is, however processes count them: "0000:3b:00.0", by which NCCL knows it, and "GPU-6ac9...", which
  // parts of a card (MIG) have of their own.
  std::string pci_bus_id;
  std::string uuid;
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

// What to do about an error that keeps all devices from being used, as far as one can say: " (the driver is for CUDA
// 12.4, ...)", or nothing. `visible`: CUDA_VISIBLE_DEVICES, which may be null.
std::string AdviceOn(cudaError_t error, int driver_version, int runtime_version, const char* visible);

// Sets what the CUDA runtime reads at its first call, where the environment doesn't say otherwise: as many hardware
// queues as streams may use (CUDA_DEVICE_MAX_CONNECTIONS=32), so that one stream never waits behind another one's wait,
// and kernels loaded before they are first needed (CUDA_MODULE_LOADING=EAGER), as loading one waits for kernels that
// may be waiting for a peer. At the start of a process, before other threads.
void PrepareEnvironment();

// "NVIDIA H200, sm_90, 139.8 GiB, CUDA 13.0 (driver 13.0)".
std::string Describe(const DeviceFacts& facts);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_DEVICE_H_
