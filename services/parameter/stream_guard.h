// What keeps streams bounded: a slot of a limited number, and an end to one that lasts too long.
#ifndef PENSTOCK_SERVICES_PARAMETER_STREAM_GUARD_H_
#define PENSTOCK_SERVICES_PARAMETER_STREAM_GUARD_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "services/parameter/limits.h"

namespace penstock {

// One of `max` slots that `count` counts, while it lives.
class StreamSlot {
 public:
  StreamSlot(std::atomic<int>& count, int max) : count_(count), taken_(count.fetch_add(1) < max) {}
  ~StreamSlot() { count_.fetch_sub(1); }
  StreamSlot(const StreamSlot&) = delete;
  StreamSlot& operator=(const StreamSlot&) = delete;
  bool taken() const { return taken_; }

 private:
  std::atomic<int>& count_;
  const bool taken_;
};

// Cancels a call that isn't ended within kStreamMax. Thread-safe. The context lives until End() was called.
class StreamGuard : public std::enable_shared_from_this<StreamGuard> {
 public:
  static std::shared_ptr<StreamGuard> Start(grpc::CallbackServerContext* context) {
    std::shared_ptr<StreamGuard> guard(new StreamGuard(context));
    const auto until = std::chrono::system_clock::now() + absl::ToChronoSeconds(kStreamMax);
    // Weak: a grpc::Alarm keeps its function until it is destroyed, so a strong pointer would be a cycle.
    guard->alarm_.Set(until, [weak = guard->weak_from_this()](bool fired) {
      const std::shared_ptr<StreamGuard> self = weak.lock();
      if (fired && self != nullptr) self->Cut();
    });
    return guard;
  }

  void End() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      context_ = nullptr;
    }
    alarm_.Cancel();
  }

 private:
  explicit StreamGuard(grpc::CallbackServerContext* context) : context_(context) {}
  void Cut() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }

  grpc::Alarm alarm_;
  std::mutex mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_STREAM_GUARD_H_
