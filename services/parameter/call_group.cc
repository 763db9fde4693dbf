#include "services/parameter/call_group.h"

namespace penstock {

void CallGroup::Cancel(const std::string& reason) {
  // TryCancel under the lock: it only posts the cancellation, and a context that is in the set is alive while we hold it.
  std::lock_guard<std::mutex> lock(mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  reason_ = reason;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.notify_all();
}

bool CallGroup::cancelled() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_;
}

absl::Status CallGroup::status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_ ? absl::CancelledError(reason_) : absl::OkStatus();
}

absl::Status CallGroup::Enter(grpc::ClientContext* context) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (cancelled_) return absl::CancelledError(reason_);
  contexts_.insert(context);
  return absl::OkStatus();
}

void CallGroup::Leave(grpc::ClientContext* context) {
  std::lock_guard<std::mutex> lock(mutex_);
  contexts_.erase(context);
}

bool CallGroup::WaitCancelled(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [this] { return cancelled_; });
}

}  // namespace penstock
