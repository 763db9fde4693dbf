// A group's collectives on its NCCL communicator. Private to NcclCommunicator; the rank's thread.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_COLLECTIVES_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_COLLECTIVES_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl/nccl_channel.h"
#include "worker/comm/nccl/nccl_order.h"

namespace penstock {

// Rounds of a sum that the host gives to the device beyond the one that is done, at most twice as many: each is a few
// launches, of which a device queues some 1024.
inline constexpr size_t kRoundsAheadMax = 64;

class NcclGroup {
 public:
  // `scratch`: device memory of kReduceScratchBytesMax, which the rank's groups share; it outlives the group, and so
  // does `order`. The compute stream comes between any two users of the scratch.
  NcclGroup(std::unique_ptr<NcclChannel> channel, NcclOrder* order, int members, int self, float* scratch)
      : channel_(std::move(channel)), order_(order), members_(members), self_(self), scratch_(scratch) {}

  NcclChannel& channel() { return *channel_; }

  // Connects the members with each other in every way that the collectives below take, messages and, for fast sums,
  // NCCL's algorithms: it does so at a way's first use, and allocates memory for it, which may wait for whatever waits
  // on the device for a peer by then. All members call it; it returns when they have.
  absl::Status WarmUp(bool fast);

  // Arguments were checked. `data` is device memory. Each one begins behind what the compute stream has, which waits
  // for its end; of a barrier the host does.
  absl::Status ReduceScatterInOrder(absl::Span<float> data, absl::Span<const std::vector<Part>> parts);
  absl::Status ReduceScatterFast(absl::Span<float> data, absl::Span<const std::vector<Part>> parts);
  absl::Status AllGather(absl::Span<std::byte> data, absl::Span<const std::vector<Part>> parts);
  absl::Status AllReduceFast(absl::Span<float> data);
  absl::Status Broadcast(int root, absl::Span<std::byte> data);
  absl::Status Barrier();

 private:
  // Gives a collective to the device.
  absl::Status Run(absl::FunctionRef<absl::Status()> give);
  // One of a single group of NCCL's calls.
  absl::Status Give(absl::FunctionRef<ncclResult_t()> calls);

  const std::unique_ptr<NcclChannel> channel_;
  NcclOrder* const order_;
  const int members_;
  const int self_;
  float* const scratch_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_COLLECTIVES_H_
