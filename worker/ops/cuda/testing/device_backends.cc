#include "worker/ops/cuda/cuda_backend.h"
#include "worker/ops/testing/backends.h"

namespace penstock {

std::vector<TestBackend> AllBackends() {
  return {{"Cuda", [] { return CreateCudaBackend({.device = 0}); }, /*may_be_absent=*/true}};
}

}  // namespace penstock
