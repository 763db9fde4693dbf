#include "worker/comm/gloo/gloo_context.h"

#include <chrono>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"

namespace penstock {
namespace {

constexpr uint64_t kHeadMagic = 0x50454e53544f434bULL;  // "PENSTOCK"

// Gloo matches sends and receives by slot, in order. The payload's slot holds its size, so that a payload never meets a
// buffer of another size; the head, which has one size only, has a slot of its own.
uint64_t HeadSlot(Tag tag) { return tag; }
uint64_t PayloadSlot(Tag tag, size_t bytes) {
  static_assert(kMessageBytesMax < (uint64_t{1} << 32));
  return (uint64_t{1} << 63) | (static_cast<uint64_t>(tag) << 32) | bytes;
}

}  // namespace

std::string GlooMessage(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.rfind("[./gloo", 0) == 0 ? text.find("] ") : std::string::npos;
  return end == std::string::npos ? text : text.substr(end + 2);
}

std::string GlooMesh::Name(int rank) const {
  const bool named = rank >= 0 && rank < static_cast<int>(names_.size());
  return named ? absl::StrCat("rank ", rank, " (", names_[rank], ")") : absl::StrCat("rank ", rank);
}

absl::Status GlooMesh::status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

absl::Status GlooMesh::Fail(absl::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (status_.ok()) status_ = std::move(status);
  // abortWait only sets a flag and notifies; it takes no lock that is held while this one is waited for.
  for (const std::shared_ptr<GlooTransfer>& transfer : transfers_) transfer->AbortWait();
  return status_;
}

void GlooMesh::Close() {
  // Nothing is posted while the connections go, or later.
  device_->AwaitLoop();
  // Pair::close resets the connection. A peer that is just accepting it asks for its address, and Gloo's thread there
  // throws when there is none any more, which ends the peer's process. What closes all pairs in the ordinary way is a
  // wait that times out.
  try {
    std::byte nothing{};
    context_->createUnboundBuffer(&nothing, sizeof(nothing))->waitRecv(nullptr, std::chrono::milliseconds(1));
  } catch (const std::exception&) {
    // The timeout.
  }
  absl::flat_hash_set<std::shared_ptr<GlooTransfer>> transfers;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    transfers.swap(transfers_);
    deferred_.clear();
  }
}

void GlooMesh::Register(std::shared_ptr<GlooTransfer> transfer) {
  std::lock_guard<std::mutex> lock(mutex_);
  // An abort between Start's check and here must reach this transfer too.
  if (!status_.ok()) transfer->AbortWait();
  transfers_.insert(std::move(transfer));
}

void GlooMesh::Forget(GlooTransfer* transfer) {
  std::lock_guard<std::mutex> lock(mutex_);
  transfers_.erase(transfer->shared_from_this());
}

std::shared_ptr<GlooTransfer> GlooMesh::Defer(std::shared_ptr<GlooTransfer> send) {
  std::lock_guard<std::mutex> lock(mutex_);
  deferred_.push_back(std::move(send));
  if (deferred_.size() <= kGlooShortSendsMax) return nullptr;
  std::shared_ptr<GlooTransfer> oldest = std::move(deferred_.front());
  deferred_.pop_front();
  return oldest;
}

absl::Status GlooMesh::Flush() {
  std::deque<std::shared_ptr<GlooTransfer>> sends;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sends.swap(deferred_);
  }
  for (const std::shared_ptr<GlooTransfer>& send : sends) PENSTOCK_RETURN_IF_ERROR(send->AwaitEnd());
  return absl::OkStatus();
}

GlooTransfer::GlooTransfer(std::shared_ptr<GlooMesh> mesh, bool send, int peer, std::byte* data, size_t bytes)
    : mesh_(std::move(mesh)),
      send_(send),
      peer_(peer),
      data_(data),
      bytes_(bytes),
      // A receiver can't know what comes.
      head_bytes_(sizeof(GlooHead) + (send ? (is_inline() ? bytes : 0) : kGlooInlineBytes)),
      head_(std::make_unique_for_overwrite<std::byte[]>(head_bytes_)) {
  // Gloo only notes where they lie.
  head_buffer_ = mesh_->context().createUnboundBuffer(head_.get(), head_bytes_);
  if (!is_inline()) payload_buffer_ = mesh_->context().createUnboundBuffer(data_, bytes_);
}

absl::StatusOr<std::shared_ptr<Transfer>> GlooTransfer::Start(const std::shared_ptr<GlooMesh>& mesh, bool send,
                                                              int peer, Tag tag, std::byte* data, size_t bytes) {
  PENSTOCK_RETURN_IF_ERROR(mesh->status());
  std::shared_ptr<GlooTransfer> transfer(new GlooTransfer(mesh, send, peer, data, bytes));
  if (send) transfer->FillHead();
  // Before it is posted: even where its second half can't be, the first half is on its way and refers to the head.
  mesh->Register(transfer);
  mesh->device().RunInLoop([transfer, tag] {
    // Of a mesh that has failed nothing is posted any more; its waits are told.
    if (!transfer->mesh_->status().ok()) return;
    absl::Status status = transfer->Post(tag);
    if (!status.ok()) transfer->mesh_->Fail(std::move(status)).IgnoreError();
  });
  return std::shared_ptr<Transfer>(std::move(transfer));
}

void GlooTransfer::FillHead() {
  const GlooHead head = {kHeadMagic, bytes_};
  std::memcpy(head_.get(), &head, sizeof(head));
  if (is_inline()) std::memcpy(head_.get() + sizeof(head), data_, bytes_);
}

absl::Status GlooTransfer::Post(Tag tag) {
  const auto post = [&](gloo::transport::UnboundBuffer& buffer, uint64_t slot, size_t bytes) {
    send_ ? buffer.send(peer_, slot, 0, bytes) : buffer.recv(peer_, slot, 0, bytes);
  };
  try {
    if (!is_inline()) post(*payload_buffer_, PayloadSlot(tag, bytes_), bytes_);
    post(*head_buffer_, HeadSlot(tag), head_bytes_);
  } catch (const std::exception& error) {
    return WithPeer(
        absl::UnavailableError(absl::StrCat("connection to ", mesh_->Name(peer_), ": ", GlooMessage(error))), peer_);
  }
  return absl::OkStatus();
}

absl::Status GlooTransfer::Wait() {
  if (!send_ || !is_inline()) return AwaitEnd();
  PENSTOCK_RETURN_IF_ERROR(mesh_->status());
  const std::shared_ptr<GlooTransfer> oldest = mesh_->Defer(shared_from_this());
  return oldest == nullptr ? absl::OkStatus() : oldest->AwaitEnd();
}

absl::Status GlooTransfer::AwaitEnd() {
  PENSTOCK_RETURN_IF_ERROR(mesh_->status());
  const absl::Time deadline = Clock::Real()->Monotonic() + mesh_->wait_timeout();
  // Both sides sleep until the head is through, which is after the payload, unless they disagree about its size.
  absl::Status status = WaitFor(*head_buffer_, deadline);
  if (status.ok() && !send_) status = CheckHead();
  if (status.ok() && !is_inline()) status = WaitFor(*payload_buffer_, deadline);
  // What ended in an error may still be on its way; the mesh keeps it until its connections are closed.
  if (!status.ok()) return mesh_->Fail(std::move(status));
  if (!send_ && is_inline()) std::memcpy(data_, head_.get() + sizeof(GlooHead), bytes_);
  mesh_->Forget(this);
  return absl::OkStatus();
}

absl::Status GlooTransfer::CheckHead() const {
  GlooHead head;
  std::memcpy(&head, head_.get(), sizeof(head));
  if (head.magic == kHeadMagic && head.bytes == bytes_) return absl::OkStatus();
  return WithPeer(absl::InternalError(absl::StrCat(mesh_->Name(peer_), " sent a message of ", head.bytes,
                                                   " bytes where ", bytes_, " were expected")),
                  peer_);
}

absl::Status GlooTransfer::WaitFor(gloo::transport::UnboundBuffer& buffer, absl::Time deadline) {
  // Gloo takes 0 for "no timeout at all" in places, and anything negative for the default.
  const absl::Duration left = std::max(deadline - Clock::Real()->Monotonic(), absl::Milliseconds(1));
  const auto timeout = std::chrono::milliseconds(std::max<int64_t>(1, absl::ToInt64Milliseconds(left)));
  try {
    const bool done = send_ ? buffer.waitSend(nullptr, timeout) : buffer.waitRecv(nullptr, timeout);
    if (done) return absl::OkStatus();
    // Woken by Fail, which recorded the reason before.
    return mesh_->Fail(absl::CancelledError("the wait was aborted"));
  } catch (const std::exception& error) {
    if (Clock::Real()->Monotonic() >= deadline) {
      return WithPeer(
          absl::DeadlineExceededError(absl::StrCat(send_ ? "no receive by " : "no message from ", mesh_->Name(peer_),
                                                   " within ", absl::FormatDuration(mesh_->wait_timeout()))),
          peer_);
    }
    return WithPeer(
        absl::UnavailableError(absl::StrCat("connection to ", mesh_->Name(peer_), ": ", GlooMessage(error))), peer_);
  }
}

void GlooTransfer::AbortWait() {
  for (gloo::transport::UnboundBuffer* buffer : {head_buffer_.get(), payload_buffer_.get()}) {
    if (buffer == nullptr) continue;
    send_ ? buffer->abortWaitSend() : buffer->abortWaitRecv();
  }
}

}  // namespace penstock
