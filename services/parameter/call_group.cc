#include "services/parameter/call_group.h"

#include <utility>

namespace penstock {

void CallGroup::Cancel(const std::string& reason) {
  std::set<std::shared_ptr<grpc::ClientContext>> contexts;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (cancelled_) return;
    cancelled_ = true;
    reason_ = reason;
    contexts = contexts_;
  }
  changed_.notify_all();
  // Not under the lock: the end of a call may be told on this very thread, and it leaves the group.
  for (const std::shared_ptr<grpc::ClientContext>& context : contexts) context->TryCancel();
}

bool CallGroup::cancelled() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_;
}

absl::Status CallGroup::status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_ ? absl::CancelledError(reason_) : absl::OkStatus();
}

absl::Status CallGroup::Enter(std::shared_ptr<grpc::ClientContext> context) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (cancelled_) return absl::CancelledError(reason_);
  contexts_.insert(std::move(context));
  return absl::OkStatus();
}

void CallGroup::Leave(const std::shared_ptr<grpc::ClientContext>& context) {
  std::lock_guard<std::mutex> lock(mutex_);
  contexts_.erase(context);
}

bool CallGroup::WaitCancelled(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [this] { return cancelled_; });
}

}  // namespace penstock
