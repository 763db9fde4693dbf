#include "worker/ops/cuda/host_wait.h"

#include <atomic>

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"

namespace penstock::cuda {
namespace {

std::atomic<int64_t> waits{0};

}  // namespace

absl::Status WaitForStream(cudaStream_t stream, absl::string_view what, const HostWait& wait) {
  waits.fetch_add(1, std::memory_order_relaxed);
  if (!wait) return ToStatus(cudaStreamSynchronize(stream), what);
  return wait([&]() -> absl::StatusOr<bool> {
    const cudaError_t error = cudaStreamQuery(stream);
    if (error == cudaErrorNotReady) return false;
    PENSTOCK_RETURN_IF_ERROR(ToStatus(error, what));
    return true;
  });
}

int64_t HostWaits() { return waits.load(std::memory_order_relaxed); }

}  // namespace penstock::cuda
