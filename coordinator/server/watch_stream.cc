#include "coordinator/server/watch_stream.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/commit/job_state.h"
#include "services/rpc/status.h"

namespace penstock {

class WatchStreams::Stream final : public grpc::ServerWriteReactor<v1::JobStatus>,
                                   public std::enable_shared_from_this<WatchStreams::Stream> {
 public:
  explicit Stream(WatchStreams* owner) : owner_(owner) {}

  void Begin(const SharedStatus& status) {
    const uint64_t watcher =
        owner_->board_->Watch(status->id(), [weak = weak_from_this()](const SharedStatus& changed) {
          if (const auto stream = weak.lock()) stream->OnChanged(changed);
        });
    {
      std::lock_guard lock(mutex_);
      watcher_ = watcher;
    }
    // What it was when the watch began may be past by now.
    const auto now = owner_->board_->Find(status->id());
    OnChanged(now.ok() ? *now : status);
  }

  void OnChanged(const SharedStatus& status) {
    std::unique_lock lock(mutex_);
    newest_ = status;
    Advance(lock);
  }

  void EndWith(const absl::Status& status) {
    std::unique_lock lock(mutex_);
    if (!end_.has_value()) end_ = status;
    Advance(lock);
  }

  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mutex_);
    writing_ = false;
    if (!ok && !end_.has_value()) end_ = absl::CancelledError("the client is gone");
    Advance(lock);
  }
  void OnCancel() override { EndWith(absl::CancelledError("the client is gone")); }
  void OnDone() override {
    const auto self = shared_from_this();
    std::optional<uint64_t> watcher;
    {
      std::lock_guard lock(mutex_);
      watcher = watcher_;
    }
    if (watcher.has_value()) owner_->board_->Unwatch(*watcher);
    owner_->Forget(self);
  }

 private:
  // Begins the next write, or finishes. gRPC's calls are made without the lock.
  void Advance(std::unique_lock<std::mutex>& lock) {
    if (writing_ || finished_) return;
    const bool is_last = newest_ != nullptr && IsEnded(newest_->state());
    if (end_.has_value() || (newest_ == nullptr && last_sent_)) {
      finished_ = true;
      const absl::Status status = end_.value_or(absl::OkStatus());
      lock.unlock();
      Finish(ToGrpcStatus(status));
      lock.lock();
      return;
    }
    if (newest_ == nullptr) return;
    const absl::Time now = owner_->clock_->Monotonic();
    if (!is_last && now < not_before_) {
      if (pausing_) return;
      pausing_ = true;
      owner_->loop_->PostAt(not_before_, [weak = weak_from_this()] {
        const auto stream = weak.lock();
        if (stream == nullptr) return;
        std::unique_lock pause_lock(stream->mutex_);
        stream->pausing_ = false;
        stream->Advance(pause_lock);
      });
      return;
    }
    writing_ = true;
    last_sent_ = is_last;
    not_before_ = now + kWatchInterval;
    sending_ = std::move(newest_);
    newest_ = nullptr;
    lock.unlock();
    StartWrite(sending_.get());
    lock.lock();
  }

  WatchStreams* const owner_;
  // Of the write under way.
  SharedStatus sending_;

  std::mutex mutex_;
  std::optional<uint64_t> watcher_ ABSL_GUARDED_BY(mutex_);
  // Not sent yet.
  SharedStatus newest_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool pausing_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time not_before_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

WatchStreams::~WatchStreams() {
  EndAll(absl::UnavailableError("the coordinator is stopping"));
  std::unique_lock lock(mutex_);
  empty_.wait(lock, [this] { return streams_.empty(); });
}

grpc::ServerWriteReactor<v1::JobStatus>* WatchStreams::Watch(const std::string& job) {
  const absl::StatusOr<SharedStatus> found = board_->Find(job);
  const auto stream = std::make_shared<Stream>(this);
  absl::Status refused = found.status();
  {
    std::lock_guard lock(mutex_);
    if (refused.ok()) refused = ended_;
    if (refused.ok() && streams_.size() >= kWatchersMax) {
      refused = absl::ResourceExhaustedError(absl::StrCat("more than ", kWatchersMax, " clients watch"));
    }
    // Also a refused one: it lives until gRPC is done with it.
    streams_.insert(stream);
  }
  if (refused.ok()) {
    stream->Begin(*found);
  } else {
    stream->EndWith(refused);
  }
  return stream.get();
}

void WatchStreams::Forget(const std::shared_ptr<Stream>& stream) {
  std::lock_guard lock(mutex_);
  streams_.erase(stream);
  if (streams_.empty()) empty_.notify_all();
}

void WatchStreams::EndAll(const absl::Status& status) {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    std::lock_guard lock(mutex_);
    if (ended_.ok()) ended_ = status;
    streams.assign(streams_.begin(), streams_.end());
  }
  for (const auto& stream : streams) stream->EndWith(status);
}

}  // namespace penstock
