// How the ranks of one epoch exchange tensors: point-to-point messages, and collectives over groups of ranks.
//
// A Communicator belongs to one epoch of one job. It is made connected, and after the first error or an Abort it is
// dead: every call and every wait answers with that first cause, and the next epoch makes a new one.
//
// Thread-safety: one thread uses it (the rank's); Abort may come from any thread at any time and ends every wait at
// once. The counters may be read from any thread.
//
// Order: a message has its buffer from Start to Wait. What the rank's compute stream is given after Wait sees the
// message, or may overwrite what was sent; what it was given before Start is done before the message touches the
// buffer. A collective has its buffers for the call. On the CPU the compute stream is the calling thread, so Wait
// blocks. Between devices (NCCL) the streams wait for each other and Wait returns at once; the host sees what a stream
// has done when it waits for the stream, as for anything that it takes from the device, and must do so with
// host_wait(): there an abort, a lost peer or a message that is late shows, or in a later call.
//
// Memory: the caller owns all buffers, and they must stay alive until the compute stream has passed Wait, or, where
// that ended in an error, until the Communicator is destroyed.
//
// Every wait has a deadline. An error that a peer is to blame for carries that peer's rank (PeerOf).
//
//   auto recv = comm->StartRecv(/*peer=*/0, tag, absl::MakeSpan(buffer));
//   ... compute ...
//   PENSTOCK_RETURN_IF_ERROR((*recv)->Wait());
#ifndef PENSTOCK_WORKER_COMM_COMMUNICATOR_H_
#define PENSTOCK_WORKER_COMM_COMMUNICATOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/ops/host_wait.h"

namespace penstock {

// Messages between two ranks with the same tag arrive in the order in which they were sent; different tags don't wait
// for each other. Callers use tags below kFirstCollectiveTag.
using Tag = uint32_t;
inline constexpr Tag kFirstCollectiveTag = 0x4000'0000;
inline constexpr Tag kTagLimit = 0x8000'0000;  // exclusive

// Longest single message. Collectives cut theirs.
inline constexpr size_t kMessageBytesMax = size_t{1} << 30;

// Scratch that an ordered reduce-scatter uses at most, whatever the group's size.
inline constexpr size_t kReduceScratchBytesMax = size_t{16} << 20;

// The rank at the other end of what failed, if `status` came from a Communicator and a peer is to blame.
std::optional<int> PeerOf(const absl::Status& status);
// `status` with that rank attached.
absl::Status WithPeer(absl::Status status, int peer);

// One message on its way.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Until the buffer may be reused (a send) or holds the message (a receive): see Order above. Call it once. What was
  // sent may be on its way still: then a later call, or nobody, is told of its failure. A Communicator without an error
  // is destroyed once all has gone.
  // DEADLINE_EXCEEDED after the wait timeout, UNAVAILABLE when the peer closed the connection, INTERNAL when the peer's
  // message has another size than the buffer; the cause of the abort after Abort.
  virtual absl::Status Wait() = 0;
};

// Elements [begin, begin + count) of a buffer that all members of a group lay out in the same way.
struct Part {
  int64_t begin = 0;
  int64_t count = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Both return at once. A send may need the receiver to have started its receive before it makes progress.
  // INVALID_ARGUMENT: peer is this rank or out of range, the message is empty or longer than kMessageBytesMax.
  virtual absl::StatusOr<std::shared_ptr<Transfer>> StartSend(int peer, Tag tag, absl::Span<const std::byte> data) = 0;
  virtual absl::StatusOr<std::shared_ptr<Transfer>> StartRecv(int peer, Tag tag, absl::Span<std::byte> data) = 0;

  // Ends every wait now and later with `reason`. The first reason stays. Returns at once; the connections stay open
  // until the object is destroyed, so that a peer learns of it from the coordinator, with the true cause, and not from
  // a closed connection.
  virtual void Abort(absl::Status reason) = 0;

  // Collectives. `group` lists ranks in the order of their group index and contains this one; all members call with the
  // same group, in the same order of calls. A group of one returns at once.

  // Sums over the group. parts[i] lists what member i owns; afterwards this member's own parts of `data` hold the sum
  // of all members' values, added in group order: ((x0 + x1) + x2) + ... The other parts are left as they were. The
  // lists don't overlap, or are the same for all members.
  virtual absl::Status ReduceScatter(absl::Span<const int> group, absl::Span<float> data,
                                     absl::Span<const std::vector<Part>> parts);
  // Afterwards all members hold every member's parts. (Uneven and several parts: an all-gather-v.)
  virtual absl::Status AllGather(absl::Span<const int> group, absl::Span<float> data,
                                 absl::Span<const std::vector<Part>> parts);
  // The same of bytes: parts are counted in them.
  virtual absl::Status AllGatherBytes(absl::Span<const int> group, absl::Span<std::byte> data,
                                      absl::Span<const std::vector<Part>> parts);
  // Sums in group order too: ReduceScatter over equal parts, then AllGather; between two members ReduceScatter alone,
  // of everything to both.
  virtual absl::Status AllReduce(absl::Span<const int> group, absl::Span<float> data);
  // From group[root_index] to all.
  virtual absl::Status Broadcast(absl::Span<const int> group, int root_index, absl::Span<std::byte> data);
  virtual absl::Status Barrier(absl::Span<const int> group);

  // What the host waits for the compute stream with, where that may wait for messages; empty where only Wait does. It
  // may outlive the object, and then says that it is gone.
  virtual HostWait host_wait() { return {}; }

  // Start and Wait in one.
  absl::Status Send(int peer, Tag tag, absl::Span<const std::byte> data);
  absl::Status Recv(int peer, Tag tag, absl::Span<std::byte> data);

  struct Counters {
    uint64_t bytes_sent = 0;
    uint64_t bytes_received = 0;
    uint64_t collectives = 0;
  };
  virtual Counters counters() const;

 protected:
  void CountSent(size_t bytes) { bytes_sent_.fetch_add(bytes, std::memory_order_relaxed); }
  void CountReceived(size_t bytes) { bytes_received_.fetch_add(bytes, std::memory_order_relaxed); }
  void CountCollective() { collectives_.fetch_add(1, std::memory_order_relaxed); }
  // INVALID_ARGUMENT as StartSend and StartRecv document.
  absl::Status CheckMessage(int peer, Tag tag, size_t bytes) const;

 private:
  // Self-synchronised.
  std::atomic<uint64_t> bytes_sent_{0};
  std::atomic<uint64_t> bytes_received_{0};
  std::atomic<uint64_t> collectives_{0};
  // Of the rank's thread: grown at the first reduce-scatter, then kept.
  std::vector<float> reduce_scratch_;
  // Members, because a message that an error left on its way outlives the call.
  std::byte barrier_out_{1};
  std::byte barrier_in_{0};
};

template <typename T>
absl::Span<const std::byte> AsBytes(absl::Span<const T> values) {
  return {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T)};
}
template <typename T>
absl::Span<std::byte> AsWritableBytes(absl::Span<T> values) {
  return {reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_COMMUNICATOR_H_
