// The buffers through which boundary tensors come and go: receives are posted ahead of their instructions, sends are
// waited for when their buffer is needed again. How many buffers there are follows from the instruction lists, so all
// of them are planned before the first step.
//
// Thread-safety: none; the rank's thread. The lanes own no memory: buffers come from the rank's Arena.
#ifndef PENSTOCK_WORKER_RUNTIME_MESSAGE_LANE_H_
#define PENSTOCK_WORKER_RUNTIME_MESSAGE_LANE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/schedule/instruction.h"
#include "worker/comm/communicator.h"

namespace penstock {

// Messages of micro-batches that come from one neighbour: activations, which forward passes use up, or gradients, which
// backward passes do.
class RecvLane {
 public:
  RecvLane(Op recv, Tag first_tag) : recv_(recv), first_tag_(first_tag) {}
  void Bind(Communicator* comm, int peer, std::vector<std::span<std::byte>> buffers);

  // At the start of a list: posts as many receives as there are free buffers, in the list's order.
  absl::Status Begin(const std::vector<Instruction>& list);
  // Waits until the micro-batch's message is here.
  absl::Status Receive(int micro_batch);
  // The message, after Receive and until Release.
  std::span<std::byte> Message(int micro_batch) const;
  // The message was used: its buffer takes the next one.
  absl::Status Release(int micro_batch);

 private:
  struct Buffer {
    std::span<std::byte> memory;
    int micro_batch = -1;
    std::shared_ptr<Transfer> transfer;
  };

  absl::Status PostAhead();
  const Buffer* Find(int micro_batch) const;

  const Op recv_;
  const Tag first_tag_;
  Communicator* comm_ = nullptr;
  int peer_ = -1;
  std::vector<Buffer> buffers_;
  // Micro-batches in the order of their receives, and how many of them were posted.
  std::vector<int> order_;
  size_t posted_ = 0;
};

// Messages of micro-batches to one neighbour: what forward passes (activations) or backward passes (gradients) make.
class SendLane {
 public:
  SendLane(Op send, Tag first_tag) : send_(send), first_tag_(first_tag) {}
  void Bind(Communicator* comm, int peer, std::vector<std::span<std::byte>> buffers);

  // A buffer to fill with the micro-batch's message; waits for the oldest send when all are under way.
  absl::StatusOr<std::span<std::byte>> Acquire(int micro_batch);
  // Starts sending it.
  absl::Status Send(int micro_batch);
  // Waits until all are sent.
  absl::Status Flush();

 private:
  struct Buffer {
    std::span<std::byte> memory;
    int micro_batch = -1;
    // When it was acquired: the oldest one is waited for.
    uint64_t turn = 0;
    std::shared_ptr<Transfer> transfer;
  };

  const Op send_;
  const Tag first_tag_;
  Communicator* comm_ = nullptr;
  int peer_ = -1;
  uint64_t turns_ = 0;
  std::vector<Buffer> buffers_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_MESSAGE_LANE_H_
