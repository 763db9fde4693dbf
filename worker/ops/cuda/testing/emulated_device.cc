#include "worker/ops/cuda/testing/emulated_device.h"

#include "worker/ops/cuda/device_operations.h"
#include "worker/ops/cuda/host_wait.h"
#include "worker/ops/cuda/testing/plain_matmul.h"

namespace penstock {

std::unique_ptr<Backend> CreateEmulatedDevice() {
  return cuda::MakeDeviceOperations("emulated", std::make_unique<cuda::PlainMatmuls>());
}

int64_t EmulatedHostWaits() { return cuda::HostWaits(); }

}  // namespace penstock
