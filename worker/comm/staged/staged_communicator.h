// A Communicator for memory that the host can't touch, over one that moves the host's: every message goes through
// pinned host memory. It serves devices wherever there is no faster way between them.
//
// The collectives are the other Communicator's, on copies: the same bits.
#ifndef PENSTOCK_WORKER_COMM_STAGED_STAGED_COMMUNICATOR_H_
#define PENSTOCK_WORKER_COMM_STAGED_STAGED_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "worker/comm/communicator.h"
#include "worker/ops/backend.h"

namespace penstock {

class StagedCommunicator : public Communicator {
 public:
  // `backend` outlives every call, and copies in the order of its default stream.
  StagedCommunicator(std::unique_ptr<Communicator> host, Backend* backend);
  ~StagedCommunicator() override;

  // For messages from and to host memory. The tags of both are one space.
  Communicator* host() const { return host_.get(); }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  absl::StatusOr<std::shared_ptr<Transfer>> StartSend(int peer, Tag tag, absl::Span<const std::byte> data) override;
  absl::StatusOr<std::shared_ptr<Transfer>> StartRecv(int peer, Tag tag, absl::Span<std::byte> data) override;
  void Abort(absl::Status reason) override { host_->Abort(std::move(reason)); }
  absl::Status ReduceScatter(absl::Span<const int> group, absl::Span<float> data,
                             absl::Span<const std::vector<Part>> parts) override;
  absl::Status AllGatherBytes(absl::Span<const int> group, absl::Span<std::byte> data,
                              absl::Span<const std::vector<Part>> parts) override;
  absl::Status AllReduce(absl::Span<const int> group, absl::Span<float> data) override;
  absl::Status Broadcast(absl::Span<const int> group, int root_index, absl::Span<std::byte> data) override;
  absl::Status Barrier(absl::Span<const int> group) override { return host_->Barrier(group); }
  Counters counters() const override { return host_->counters(); }

 private:
  class Buffers;
  class StagedTransfer;

  // A copy in host memory.
  absl::StatusOr<std::unique_ptr<DeviceMemory>> Fetch(absl::Span<const std::byte> data);
  // Runs a collective on a copy of `data`, and takes the bytes `back` of what it leaves there.
  absl::Status OnCopy(absl::Span<std::byte> data, absl::Span<const Part> back,
                      absl::FunctionRef<absl::Status(absl::Span<std::byte>)> run);

  Backend* const backend_;
  // Before the connections: a message that an error left on its way refers to its buffer.
  const std::shared_ptr<Buffers> buffers_;
  const std::unique_ptr<Communicator> host_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_STAGED_STAGED_COMMUNICATOR_H_
