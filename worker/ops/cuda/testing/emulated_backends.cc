#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/ops/testing/backends.h"

namespace penstock {

std::vector<TestBackend> AllBackends() {
  return {{"CudaEmulated", []() -> absl::StatusOr<std::unique_ptr<Backend>> { return CreateEmulatedDevice(); }}};
}

}  // namespace penstock
