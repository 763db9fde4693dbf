#include "worker/cuda/device.h"

#include <cuda_runtime_api.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "worker/cuda/status.h"

namespace penstock::cuda {

absl::StatusOr<DeviceFacts> QueryDevice(int device) {
  // Left untouched where the call fails.
  int count = 0;
  PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaGetDeviceCount(&count), "no CUDA device can be used"));
  if (device < 0 || device >= count) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no device cuda:", device, "; this machine has ", count, ", counted from cuda:0"));
  }
  cudaDeviceProp properties;
  PENSTOCK_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, device), absl::StrCat("properties of cuda:", device)));
  DeviceFacts facts;
  facts.name = properties.name;
  facts.compute_major = properties.major;
  facts.compute_minor = properties.minor;
  facts.multiprocessors = properties.multiProcessorCount;
  facts.shared_bytes_per_block_max = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  facts.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaDriverGetVersion(&facts.driver_version), "the driver's version"));
  PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaRuntimeGetVersion(&facts.runtime_version), "the run-time library's version"));
  return facts;
}

void PrepareEnvironment() {
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/0);
  setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
  // What a configuration file of NCCL's may say otherwise (worker/comm/nccl/nccl_environment.h).
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "0", /*overwrite=*/0);
  setenv("NCCL_COMM_BLOCKING", "0", /*overwrite=*/0);
}

std::string Describe(const DeviceFacts& facts) {
  const auto version = [](int number) { return absl::StrCat(number / 1000, ".", number % 1000 / 10); };
  return absl::StrFormat("%s, sm_%d%d, %.1f GiB, CUDA %s (driver %s)", facts.name, facts.compute_major,
                         facts.compute_minor, static_cast<double>(facts.memory_bytes) / (1 << 30),
                         version(facts.runtime_version), version(facts.driver_version));
}

}  // namespace penstock::cuda
