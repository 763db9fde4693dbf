#include "worker/ops/cuda/host_wait.h"

#include <atomic>

#include "worker/cuda/status.h"

namespace penstock::cuda {
namespace {

std::atomic<int64_t> waits{0};

}  // namespace

absl::Status WaitForStream(cudaStream_t stream, absl::string_view what) {
  waits.fetch_add(1, std::memory_order_relaxed);
  return ToStatus(cudaStreamSynchronize(stream), what);
}

int64_t HostWaits() { return waits.load(std::memory_order_relaxed); }

}  // namespace penstock::cuda
