#include "coordinator/membership/service.h"

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/rpc/status.h"

namespace penstock {

// One stream. gRPC calls the On… methods one at a time for each kind; Send and End come from any thread.
class MembershipService::Stream final : public grpc::ServerBidiReactor<v1::MemberReport, v1::MemberCommand> {
 public:
  Stream(MembershipService* service, uint64_t number, grpc::CallbackServerContext* context)
      : service_(service), number_(number), context_(context) {}

  // After the service knows the stream.
  void Begin() { StartRead(&report_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      EndWith(absl::OkStatus());
      return;
    }
    service_->listener_->OnReport(number_, std::move(report_), service_->clock_->Monotonic());
    report_.Clear();
    StartRead(&report_);
  }

  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mutex_);
    writing_ = false;
    if (!ok) queue_.clear();
    Advance(lock);
  }

  void OnCancel() override { EndWith(absl::CancelledError("connection closed")); }

  void OnDone() override {
    std::string reason = "connection closed";
    {
      std::lock_guard lock(mutex_);
      if (reason_.has_value() && !reason_->ok() && !absl::IsCancelled(*reason_)) {
        reason = std::string(reason_->message());
      }
    }
    service_->listener_->OnEnd(number_, reason);
    service_->Forget(number_);
  }

  void Send(const v1::MemberCommand& command) {
    std::unique_lock lock(mutex_);
    if (reason_.has_value()) return;
    if (queue_.size() >= kCommandsMax) {
      // It doesn't read. The write under way may never end, so nothing less than cutting the stream will do.
      reason_ = absl::ResourceExhaustedError("the member doesn't read its commands");
      queue_.clear();
      lock.unlock();
      context_->TryCancel();
      lock.lock();
      Advance(lock);
      return;
    }
    queue_.push_back(command);
    Advance(lock);
  }

  void EndWith(const absl::Status& status) {
    std::unique_lock lock(mutex_);
    if (!reason_.has_value()) reason_ = status;
    // A cancelled stream writes nothing any more.
    if (context_->IsCancelled()) queue_.clear();
    Advance(lock);
  }

 private:
  // Begins the next write, or finishes. gRPC's calls are made without the lock.
  void Advance(std::unique_lock<std::mutex>& lock) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      sending_ = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      StartWrite(&sending_);
      lock.lock();
    } else if (reason_.has_value()) {
      finished_ = true;
      const absl::Status status = *reason_;
      lock.unlock();
      Finish(ToGrpcStatus(status));
      lock.lock();
    }
  }

  MembershipService* const service_;
  const uint64_t number_;
  grpc::CallbackServerContext* const context_;
  // Of the read and the write under way.
  v1::MemberReport report_;
  v1::MemberCommand sending_;

  std::mutex mutex_;
  std::deque<v1::MemberCommand> queue_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  // Why it ends; the first reason stays.
  std::optional<absl::Status> reason_ ABSL_GUARDED_BY(mutex_);
};

MembershipService::~MembershipService() {
  EndAll(absl::UnavailableError("the coordinator is stopping"));
  std::unique_lock lock(mutex_);
  empty_.wait(lock, [this] { return streams_.empty(); });
}

namespace {

// Refuses a stream before it begins.
class RefusedStream final : public grpc::ServerBidiReactor<v1::MemberReport, v1::MemberCommand> {
 public:
  explicit RefusedStream(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerBidiReactor<v1::MemberReport, v1::MemberCommand>* MembershipService::Join(
    grpc::CallbackServerContext* context) {
  std::shared_ptr<Stream> stream;
  absl::Status refused;
  {
    std::lock_guard lock(mutex_);
    refused = ended_;
    if (refused.ok() && streams_.size() >= kStreamsMax) {
      refused = absl::ResourceExhaustedError(absl::StrCat("more than ", kStreamsMax, " streams of members"));
    }
    if (refused.ok()) {
      stream = std::make_shared<Stream>(this, next_stream_, context);
      streams_[next_stream_++] = stream;
    }
  }
  // gRPC calls OnDone exactly once, after which the reactor may go.
  if (stream == nullptr) return new RefusedStream(refused);
  stream->Begin();
  return stream.get();
}

std::shared_ptr<MembershipService::Stream> MembershipService::Find(uint64_t stream) {
  std::lock_guard lock(mutex_);
  const auto found = streams_.find(stream);
  return found == streams_.end() ? nullptr : found->second;
}

void MembershipService::Forget(uint64_t stream) {
  std::shared_ptr<Stream> last;  // goes after the lock
  std::lock_guard lock(mutex_);
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  last = std::move(found->second);
  streams_.erase(found);
  if (streams_.empty()) empty_.notify_all();
}

void MembershipService::Send(uint64_t stream, const v1::MemberCommand& command) {
  if (const auto found = Find(stream)) found->Send(command);
}

void MembershipService::End(uint64_t stream, const absl::Status& status) {
  if (const auto found = Find(stream)) found->EndWith(status);
}

void MembershipService::EndAll(const absl::Status& status) {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    std::lock_guard lock(mutex_);
    if (ended_.ok()) ended_ = status;
    for (const auto& [number, stream] : streams_) streams.push_back(stream);
  }
  for (const auto& stream : streams) stream->EndWith(status);
}

}  // namespace penstock
