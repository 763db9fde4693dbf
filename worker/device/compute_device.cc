#include "worker/device/compute_device.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/cuda/cuda_backend.h"

namespace penstock {

std::string ComputeDevice::name() const { return is_cuda() ? absl::StrCat("cuda:", cuda) : "cpu"; }

absl::StatusOr<ComputeDevice> ParseComputeDevice(const std::string& name, int threads) {
  ComputeDevice device{.cuda = -1, .threads = threads};
  if (name == "cpu") return device;
  absl::string_view number = name;
  if (absl::ConsumePrefix(&number, "cuda:") && absl::SimpleAtoi(number, &device.cuda) && device.cuda >= 0 &&
      number == absl::StrCat(device.cuda)) {
    return device;
  }
  return absl::InvalidArgumentError(absl::StrCat("--device=", name, ": expected cpu, or cuda:0, cuda:1, ..."));
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(const ComputeDevice& device) {
  if (device.is_cuda()) return CreateCudaBackend({.device = device.cuda});
  return CreateCpuBackend({.threads = device.threads});
}

}  // namespace penstock
