// Private to comm/gloo: one epoch's mesh of Gloo pairs and the messages on it. Gloo's exceptions end here.
#ifndef PENSTOCK_WORKER_COMM_GLOO_GLOO_CONTEXT_H_
#define PENSTOCK_WORKER_COMM_GLOO_GLOO_CONTEXT_H_

#include <gloo/transport/context.h>
#include <gloo/transport/unbound_buffer.h>

#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/gloo/gloo_device.h"

namespace penstock {

// Every message has one of these, so that two sides that disagree about a message's size find out instead of writing
// past a buffer. A short payload follows in the same message of Gloo's, which may be shorter than its receiver is ready
// for. A longer payload is a message of its own, sent before: its receiver sleeps until the head is there, and has
// both. Both sides run the same build, so the layout is the compiler's.
struct GlooHead {
  uint64_t magic = 0;
  uint64_t bytes = 0;
};
inline constexpr size_t kGlooInlineBytes = 64 << 10;

// A short send copies its message, and its wait doesn't wait: to be woken and to post the next message would take
// longer than the message itself. So many of them may not have gone yet; then the oldest is waited for.
inline constexpr size_t kGlooShortSendsMax = 16;

class GlooTransfer;

// What went wrong, without the place in Gloo's sources that its messages begin with.
std::string GlooMessage(const std::exception& error);

// The state that a communicator shares with its transfers.
class GlooMesh : public std::enable_shared_from_this<GlooMesh> {
 public:
  GlooMesh(std::shared_ptr<GlooDevice> device, std::shared_ptr<gloo::transport::Context> context,
           std::vector<std::string> names, absl::Duration wait_timeout)
      : device_(std::move(device)),
        context_(std::move(context)),
        names_(std::move(names)),
        wait_timeout_(wait_timeout) {}

  GlooDevice& device() { return *device_; }
  gloo::transport::Context& context() { return *context_; }
  absl::Duration wait_timeout() const { return wait_timeout_; }
  // "rank 3 (worker-5)".
  std::string Name(int rank) const;

  // The first error, or OK while the mesh lives.
  absl::Status status() const;
  // Records the first error, wakes every wait, and answers with the first error.
  absl::Status Fail(absl::Status status);
  // Closes every connection and lets go of all transfers. No thread is in a wait any more.
  void Close();

  void Register(std::shared_ptr<GlooTransfer> transfer);
  void Forget(GlooTransfer* transfer);

  // Keeps a short send for a later wait. Returns the one that has to be waited for now, or null.
  std::shared_ptr<GlooTransfer> Defer(std::shared_ptr<GlooTransfer> send);
  // Waits for all of those, unless the mesh has failed.
  absl::Status Flush();

 private:
  // Outlives the connections, which are in its loop.
  const std::shared_ptr<GlooDevice> device_;
  const std::shared_ptr<gloo::transport::Context> context_;
  const std::vector<std::string> names_;
  const absl::Duration wait_timeout_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  absl::Status status_;
  // Keeps what is on its way alive until it is waited for or the connections are closed.
  absl::flat_hash_set<std::shared_ptr<GlooTransfer>> transfers_;
  // Short sends whose Wait has returned, the oldest first.
  std::deque<std::shared_ptr<GlooTransfer>> deferred_;
};

class GlooTransfer : public Transfer, public std::enable_shared_from_this<GlooTransfer> {
 public:
  // Hands the message to the loop. `data` is written to only where `send` is false.
  static absl::StatusOr<std::shared_ptr<Transfer>> Start(const std::shared_ptr<GlooMesh>& mesh, bool send, int peer,
                                                         Tag tag, std::byte* data, size_t bytes);

  absl::Status Wait() override;
  // Until the message has gone, or come.
  absl::Status AwaitEnd();
  // Ends a wait in another thread, or the next one.
  void AbortWait();

 private:
  GlooTransfer(std::shared_ptr<GlooMesh> mesh, bool send, int peer, std::byte* data, size_t bytes);
  // Before it is posted: what a send's head says, and its payload where that goes with it.
  void FillHead();
  // On the loop's thread: gives it to Gloo.
  absl::Status Post(Tag tag);
  bool is_inline() const { return bytes_ <= kGlooInlineBytes; }
  absl::Status CheckHead() const;
  absl::Status WaitFor(gloo::transport::UnboundBuffer& buffer, absl::Time deadline);

  // A transfer that is given up is destroyed by the mesh after its connections, so this reference is no cycle that
  // stays.
  const std::shared_ptr<GlooMesh> mesh_;
  const bool send_;
  const int peer_;
  std::byte* const data_;
  const size_t bytes_;
  // The head, and room for a payload in it.
  const size_t head_bytes_;
  const std::unique_ptr<std::byte[]> head_;
  std::unique_ptr<gloo::transport::UnboundBuffer> head_buffer_;
  // Null where the payload is in the head.
  std::unique_ptr<gloo::transport::UnboundBuffer> payload_buffer_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_GLOO_GLOO_CONTEXT_H_
