// The device's kernels and operations on the host: everything of the CUDA backend but cuBLASLt and the device.
#include <memory>

#include "worker/ops/cuda/device_operations.h"
#include "worker/ops/cuda/testing/plain_matmul.h"
#include "worker/ops/testing/backends.h"

namespace penstock {

std::vector<TestBackend> AllBackends() {
  return {{"CudaEmulated", []() -> absl::StatusOr<std::unique_ptr<Backend>> {
             return cuda::MakeDeviceOperations("emulated", std::make_unique<cuda::PlainMatmuls>());
           }}};
}

}  // namespace penstock
