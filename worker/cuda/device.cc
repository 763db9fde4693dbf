#include "worker/cuda/device.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "worker/cuda/status.h"

namespace penstock::cuda {
namespace {

// 13020 is 13.2.
std::string VersionText(int number) { return absl::StrCat(number / 1000, ".", number % 1000 / 10); }

// As nvidia-smi writes it.
std::string UuidText(const unsigned char (&bytes)[16]) {
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppend(&text, absl::Hex(bytes[i], absl::kZeroPad2));
  }
  return text;
}

}  // namespace

std::string AdviceOn(cudaError_t error, int driver_version, int runtime_version, const char* visible) {
  switch (error) {
    case cudaErrorInsufficientDriver:
      if (driver_version == 0) return " (this machine has no driver)";
      return absl::StrCat(" (the driver is for CUDA ", VersionText(driver_version), ", this build for ",
                          VersionText(runtime_version), ": it takes a driver for CUDA ", runtime_version / 1000,
                          " or later, or a build with CUDA ", driver_version / 1000, ")");
    case cudaErrorNoDevice:
      return visible == nullptr ? "" : absl::StrCat(" (CUDA_VISIBLE_DEVICES is '", visible, "')");
    case cudaErrorSystemNotReady:
      return " (where GPUs have NVLink switches, nvidia-fabricmanager must be running, in the driver's version)";
    case cudaErrorSystemDriverMismatch:
      return " (the driver's module and its library are of different versions: load the module again, or reboot)";
    case cudaErrorOperatingSystem:
      return " (may this process open /dev/nvidia*?)";
    case cudaErrorDevicesUnavailable:
      return " (another process may have it for itself: nvidia-smi shows its compute mode)";
    default:
      return "";
  }
}

absl::StatusOr<DeviceFacts> QueryDevice(int device) {
  // Left untouched where the call fails.
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    int driver = 0;
    int runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return absl::FailedPreconditionError(
        absl::StrCat("no CUDA device can be used: ", cudaGetErrorString(error),
                     AdviceOn(error, driver, runtime, getenv("CUDA_VISIBLE_DEVICES"))));
  }
  if (device < 0 || device >= count) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no device cuda:", device, "; this machine has ", count, ", counted from cuda:0"));
  }
  cudaDeviceProp properties;
  PENSTOCK_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, device), absl::StrCat("properties of cuda:", device)));
  DeviceFacts facts;
  facts.name = properties.name;
  char bus_id[32] = {};
  PENSTOCK_RETURN_IF_ERROR(
      ToStatus(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), device), absl::StrCat("the place of cuda:", device)));
  facts.pci_bus_id = absl::AsciiStrToLower(bus_id);
  unsigned char uuid[16];
  static_assert(sizeof(uuid) == sizeof(properties.uuid));
  std::memcpy(uuid, &properties.uuid, sizeof(uuid));
  facts.uuid = UuidText(uuid);
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
  return absl::StrFormat("%s, sm_%d%d, %.1f GiB, CUDA %s (driver %s)", facts.name, facts.compute_major,
                         facts.compute_minor, static_cast<double>(facts.memory_bytes) / (1 << 30),
                         VersionText(facts.runtime_version), VersionText(facts.driver_version));
}

}  // namespace penstock::cuda
