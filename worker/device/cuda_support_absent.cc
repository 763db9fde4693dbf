// In builds without the CUDA toolkit.
#include "worker/device/cuda_support.h"

namespace penstock {

void PrepareCudaEnvironment() {}

absl::Status DescribeCudaDevice(int, v1::DeviceInfo*) {
  return absl::FailedPreconditionError("this worker was built without CUDA: nvcc wasn't found when it was");
}

std::unique_ptr<Connector> ConnectDevices(DeviceLinkOptions) { return nullptr; }

}  // namespace penstock
