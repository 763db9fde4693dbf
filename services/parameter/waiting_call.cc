#include "services/parameter/waiting_call.h"

#include <chrono>
#include <mutex>
#include <utility>

#include <grpcpp/alarm.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "services/parameter/limits.h"
#include "services/rpc/status.h"

namespace penstock {

// Outlives the reactor: wakes and alarms that come late find it ended.
class WaitingCall::State final : public Waiter, public std::enable_shared_from_this<State> {
 public:
  State(ThreadPool& pool, Attempt attempt, Forget forget)
      : pool_(pool), attempt_(std::move(attempt)), forget_(std::move(forget)) {}

  void Begin(WaitingCall* call) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      call_ = call;
    }
    const auto until = std::chrono::system_clock::now() + absl::ToChronoNanoseconds(kWaitMax);
    alarm_.Set(std::chrono::time_point_cast<std::chrono::system_clock::duration>(until),
               // Weak: a grpc::Alarm keeps its function until it is destroyed, so a strong pointer would be a cycle.
               [weak = weak_from_this()](bool fired) {
                 const std::shared_ptr<State> self = weak.lock();
                 if (!fired || self == nullptr) return;
                 self->End(absl::DeadlineExceededError(
                     absl::StrCat("it waited for ", absl::FormatDuration(kWaitMax), "; ask again")));
               });
    Wake();
  }

  void Wake() override {
    if (!pool_.Post([self = shared_from_this()] { self->Try(); })) {
      End(absl::ResourceExhaustedError("too many calls are under way; ask again"));
    }
  }

  // Ends the call now, or as soon as the attempt under way is over.
  void End(const absl::Status& status) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (call_ == nullptr) return;
    if (trying_) {
      if (!ending_.has_value()) ending_ = status;
      return;
    }
    FinishAndUnlock(status, lock);
  }

 private:
  void Try() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (call_ == nullptr) return;
    again_ = true;
    if (trying_) return;  // the thread that is trying takes another turn
    trying_ = true;
    while (again_ && !ending_.has_value()) {
      again_ = false;
      lock.unlock();
      std::optional<absl::Status> status = attempt_(shared_from_this());
      lock.lock();
      if (status.has_value()) ending_ = *std::move(status);
    }
    trying_ = false;
    if (ending_.has_value()) FinishAndUnlock(*ending_, lock);
  }

  void FinishAndUnlock(absl::Status status, std::unique_lock<std::mutex>& lock) {
    WaitingCall* call = std::exchange(call_, nullptr);
    lock.unlock();
    if (forget_) forget_(this);
    alarm_.Cancel();
    call->Finish(ToGrpcStatus(status));  // from here on it may be gone
  }

  ThreadPool& pool_;
  const Attempt attempt_;
  const Forget forget_;
  grpc::Alarm alarm_;

  std::mutex mutex_;
  // Null once the call has ended.
  WaitingCall* call_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool trying_ ABSL_GUARDED_BY(mutex_) = false;
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> ending_ ABSL_GUARDED_BY(mutex_);
};

grpc::ServerUnaryReactor* WaitingCall::Start(ThreadPool& pool, Attempt attempt, Forget forget) {
  auto state = std::make_shared<State>(pool, std::move(attempt), std::move(forget));
  auto* call = new WaitingCall(state);
  state->Begin(call);
  return call;
}

void WaitingCall::OnCancel() { state_->End(absl::CancelledError("the client went away")); }

}  // namespace penstock
