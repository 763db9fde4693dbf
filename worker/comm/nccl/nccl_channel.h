// One NCCL communicator with its stream, and what all channels of an epoch share.
//
// Communicators are non-blocking: a call that NCCL goes on with in the background is polled to its end, so that every
// wait sees an abort, an error of the network or its deadline. For the stream's work see nccl_order.h. Only the rank's
// thread calls NCCL; Fail may come from any.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_CHANNEL_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_CHANNEL_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/nccl/nccl_library.h"
#include "worker/cuda/stream.h"

namespace penstock {

// The first error of an epoch's communication, which every call answers with from then on. Thread-safe.
class NcclEpoch {
 public:
  NcclEpoch(std::vector<std::string> names, absl::Duration wait_timeout)
      : names_(std::move(names)), wait_timeout_(wait_timeout) {}

  absl::Duration wait_timeout() const { return wait_timeout_; }
  // "rank 2 (worker-2)".
  std::string Name(int rank) const;

  absl::Status status() const;
  // The first one stays; returns that.
  absl::Status Fail(absl::Status status);

  // Asks `done` until it says true. The epoch's error when there is one, `done`'s, or DEADLINE_EXCEEDED with `late`'s
  // words after `timeout`. Doesn't record what it returns.
  absl::Status Await(absl::FunctionRef<absl::StatusOr<bool>()> done, absl::Duration timeout,
                     absl::FunctionRef<std::string()> late) const;

 private:
  const std::vector<std::string> names_;
  const absl::Duration wait_timeout_;
  // Whether status_ is an error: what polling looks at.
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// What an abort may take until the streams are empty.
inline constexpr absl::Duration kDrainTimeout = absl::Seconds(5);

class NcclChannel {
 public:
  struct Options {
    const NcclLibrary* nccl = nullptr;
    std::shared_ptr<NcclEpoch> epoch;
    std::string key;  // for messages: "nccl/lane/0-1-1"
    ncclUniqueId id;
    int size = 0;   // of the communicator
    int index = 0;  // of this rank in it
    // The rank at the other end; -1 where there are several.
    int peer = -1;
    // Thread blocks that its kernels take at most: of a lane's few, since a receive that was posted ahead holds them
    // until the message comes. NCCL has buffers of 9.4 MB on the device for each of them and each peer.
    int blocks_max = 1;
  };

  // Begins to connect. Finish waits for it. The current device is the channel's.
  static absl::StatusOr<std::unique_ptr<NcclChannel>> Begin(Options options);
  absl::Status Finish(absl::Time deadline);
  // Aborts what is on its way and frees the communicator, unless that was done.
  ~NcclChannel();
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;

  ncclComm_t comm() const { return comm_; }
  cudaStream_t stream() const { return stream_.get(); }
  int peer() const { return options_.peer; }
  const NcclLibrary& nccl() const { return *options_.nccl; }

  // What is given to the channel's stream from now on waits for what `stream` has now.
  absl::Status After(cudaStream_t stream);
  // Runs `calls`, which give NCCL operations of this communicator, as one NCCL group, and returns when they are in the
  // stream (not when they are done).
  absl::Status Enqueue(absl::FunctionRef<ncclResult_t()> calls);
  // NCCL's asynchronous error, if it has one: UNAVAILABLE (the connection).
  absl::Status Check();
  // DEADLINE_EXCEEDED: what the channel was given isn't done in time.
  absl::Status Late() const;

  // Aborts what is on its way through all `channels` at once, waits until their streams and `compute` are empty, at
  // most kDrainTimeout, and frees the communicators. One after the other would not do: each frees memory, which waits
  // for all kernels of the device, those that wait for a peer in another channel included.
  static void AbortAll(const std::vector<NcclChannel*>& channels, cudaStream_t compute);

 private:
  explicit NcclChannel(Options options) : options_(std::move(options)) {}

  // Whether NCCL has nothing under way in the background; otherwise as Check.
  absl::StatusOr<bool> Idle();
  static void Drain(const std::vector<NcclChannel*>& channels, cudaStream_t compute);
  absl::Status Blame(absl::Status status) const;
  std::string Where() const;

  const Options options_;
  ncclComm_t comm_ = nullptr;
  cuda::Stream stream_;
  cuda::Event before_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_CHANNEL_H_
