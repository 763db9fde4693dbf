// A group's collectives on its NCCL communicator. Private to NcclCommunicator; the rank's thread.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_COLLECTIVES_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_COLLECTIVES_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl/nccl_channel.h"

namespace penstock {

class NcclGroup {
 public:
  // `scratch`: device memory of kReduceScratchBytesMax, which the rank's groups share; it outlives the group.
  NcclGroup(std::unique_ptr<NcclChannel> channel, int members, int self, float* scratch)
      : channel_(std::move(channel)), members_(members), self_(self), scratch_(scratch) {}

  NcclChannel& channel() { return *channel_; }

  // Arguments were checked. `data` is device memory. Each one waits for its end.
  absl::Status ReduceScatterInOrder(absl::Span<float> data, absl::Span<const std::vector<Part>> parts);
  absl::Status ReduceScatterFast(absl::Span<float> data, absl::Span<const std::vector<Part>> parts);
  absl::Status AllGather(absl::Span<std::byte> data, absl::Span<const std::vector<Part>> parts);
  absl::Status AllReduceFast(absl::Span<float> data);
  absl::Status Broadcast(int root, absl::Span<std::byte> data);
  absl::Status Barrier();

 private:
  absl::Status AwaitAll();

  const std::unique_ptr<NcclChannel> channel_;
  const int members_;
  const int self_;
  float* const scratch_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_COLLECTIVES_H_
