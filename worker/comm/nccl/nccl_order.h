// The order between a rank's messages and its compute stream, kept by the device: streams wait for events, and the host
// goes on. Whatever was given to a channel has a mark; who uses what the message brought, or writes to what it sent,
// blocks the compute stream on it.
//
// What the host waits for after all (WaitOnHost) may stand behind messages that never come, so it is asked for again
// and again, and beside it: an abort, NCCL's asynchronous errors, and time without progress. The limit is a message's
// and not a step's: it counts from when the compute stream came to the message that it now waits for, or from the last
// message that became done, so a step may take as long as it takes. What is late is the first message that the compute
// stream waits for.
//
// Thread-safety: the rank's thread, which made it. WaitOnHost may be called by any; only on the rank's does it look at
// more than an abort, since another thread's wait ends when the rank's thread has failed.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_ORDER_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_ORDER_H_

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/nccl/nccl_channel.h"
#include "worker/cuda/stream.h"

namespace penstock {

// Messages of a rank that aren't done. A rank posts few ahead (its buffers are planned) and its host runs a bounded
// number of layers ahead, so this isn't met.
inline constexpr size_t kMessagesOpenMax = 4096;

// The end of what a channel's stream was given.
struct NcclMark {
  NcclChannel* channel = nullptr;
  // Whether it needs a peer to send: nobody waits for that when the communicator ends.
  bool receive = false;
  cuda::Event end;
  bool done = false;  // and `end` stands for something else
};

class NcclOrder {
 public:
  NcclOrder(std::shared_ptr<NcclEpoch> epoch, cudaStream_t compute);
  NcclOrder(const NcclOrder&) = delete;
  NcclOrder& operator=(const NcclOrder&) = delete;

  // Runs `give`, which gives work to the channel's stream, behind what the compute stream has by now.
  absl::StatusOr<std::shared_ptr<NcclMark>> Run(NcclChannel& channel, bool receive,
                                                absl::FunctionRef<absl::Status()> give);
  // Of what the channel's stream has by now.
  absl::StatusOr<std::shared_ptr<NcclMark>> MarkEnd(NcclChannel& channel, bool receive = false);
  // What the compute stream is given from now on waits for the mark. Never waits itself.
  absl::Status Block(const std::shared_ptr<NcclMark>& mark);
  // The same for the host.
  absl::Status Await(const std::shared_ptr<NcclMark>& mark);
  absl::Status WaitOnHost(absl::FunctionRef<absl::StatusOr<bool>()> done);

  // Waits, at most that long, until what the compute stream waits for is done, and what was sent is gone.
  absl::Status Flush(absl::Duration timeout);
  // The channels are about to be destroyed.
  void Forget();

 private:
  // What somebody waits for, and when the compute stream has come to that.
  struct Waited {
    std::shared_ptr<NcclMark> mark;
    cuda::Event reached;
  };

  absl::StatusOr<cuda::Event> TakeEvent();
  absl::Status AddWaited(const std::shared_ptr<NcclMark>& mark);
  // Drops what is done, and says whether anything was.
  absl::StatusOr<bool> Collect();
  // One look of a host that waits, besides at what it waits for.
  absl::Status Look(absl::Time* progress);

  const std::shared_ptr<NcclEpoch> epoch_;
  const cudaStream_t compute_;
  const std::thread::id owner_;

  std::vector<cuda::Event> idle_events_;
  // Not done, in the order in which they were given.
  std::deque<std::shared_ptr<NcclMark>> open_;
  // In the order in which the compute stream comes to them; done ones leave at the front.
  std::deque<Waited> waited_;
  size_t given_ = 0;
  size_t looks_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_ORDER_H_
