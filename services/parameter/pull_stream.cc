#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <grpcpp/impl/codegen/proto_utils.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "services/parameter/limits.h"
#include "services/parameter/stream_guard.h"
#include "services/parameter/streams.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

class PullReactor;

// The stream's state. Outlives the reactor: wakes that come late find it ended. At every moment the stream is in one
// phase, and whoever changes it under the mutex is the one who acts.
class PullStream final : public Waiter, public std::enable_shared_from_this<PullStream> {
 public:
  explicit PullStream(StreamResources& resources)
      : resources_(resources), started_(Clock::Real()->Monotonic()), slot_(resources.pulls, kPullStreamsMax) {}

  void Begin(PullReactor* reactor, grpc::CallbackServerContext* context, const grpc::ByteBuffer* request);
  void Wake() override;
  void OnWriteDone(bool ok);
  void OnCancel();

 private:
  // kProducing: some thread makes the next chunk. kWriting: gRPC has one. kWaiting: the version isn't there yet.
  enum class Phase { kProducing, kWriting, kWaiting, kEnded };

  struct Part {
    ElementRange range;
    v1::StateKind kind;
  };

  absl::Status ReadRequest(const grpc::ByteBuffer* request);
  void Produce();
  void End(const absl::Status& status);

  StreamResources& resources_;
  const absl::Time started_;
  const StreamSlot slot_;
  std::shared_ptr<StreamGuard> guard_;
  // Constant after Begin.
  PullReactor* reactor_ = nullptr;
  v1::PullRequest request_;
  std::shared_ptr<ShardJob> job_;

  // Used by the one who acts.
  std::vector<Part> parts_;
  size_t next_ = 0;
  grpc::ByteBuffer frame_;

  std::mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kProducing;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

class PullReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit PullReactor(std::shared_ptr<PullStream> stream) : stream_(std::move(stream)) {}
  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override { stream_->OnCancel(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<PullStream> stream_;
};

absl::Status PullStream::ReadRequest(const grpc::ByteBuffer* request) {
  if (!slot_.taken()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this shard serves ", kPullStreamsMax, " pull streams at a time; ask again"));
  }
  grpc::ByteBuffer bytes = *request;  // shares the slices; parsing consumes the buffer
  const grpc::Status parsed = grpc::GenericDeserialize<grpc::ProtoBufferReader, v1::PullRequest>(&bytes, &request_);
  if (!parsed.ok()) return absl::InvalidArgumentError("malformed PullRequest");
  PENSTOCK_ASSIGN_OR_RETURN(job_, resources_.jobs->Find(request_.job_id()));
  PENSTOCK_RETURN_IF_ERROR(job_->CheckPullRanges(request_));
  for (const v1::ElementRange& range : request_.ranges()) {
    for (const ElementRange& part :
         SplitBySize({static_cast<int64_t>(range.begin()), static_cast<int64_t>(range.end())}, kChunkElements)) {
      parts_.push_back({part, range.state_kind()});
    }
  }
  return absl::OkStatus();
}

void PullStream::Begin(PullReactor* reactor, grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  reactor_ = reactor;
  guard_ = StreamGuard::Start(context);
  const absl::Status status = ReadRequest(request);
  if (!status.ok()) return End(status);
  Produce();
}

// Makes chunks, from phase kProducing, until one is on its way or there is something to wait for.
void PullStream::Produce() {
  while (true) {
    if (next_ == parts_.size()) return End(absl::OkStatus());
    const PulledElements what{.kind = parts_[next_].kind, .bf16 = request_.bf16()};
    const absl::StatusOr<Progress> progress =
        job_->PullChunk(request_.epoch(), request_.version(), parts_[next_].range, what, shared_from_this(), &frame_);
    if (!progress.ok()) return End(progress.status());
    std::unique_lock<std::mutex> lock(mutex_);
    if (cancelled_) {
      lock.unlock();
      return End(absl::CancelledError("the client went away"));
    }
    if (*progress == Progress::kDone) {
      phase_ = Phase::kWriting;
      break;
    }
    if (!std::exchange(woken_, false)) {
      phase_ = Phase::kWaiting;
      return;
    }
  }
  resources_.metrics->OnPullBytes(parts_[next_].range.size() * (request_.bf16() ? sizeof(Bfloat16) : sizeof(float)));
  ++next_;
  reactor_->StartWrite(&frame_);
}

void PullStream::Wake() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ == Phase::kProducing) woken_ = true;
    if (phase_ != Phase::kWaiting) return;
    phase_ = Phase::kProducing;
  }
  if (!resources_.pool->Post([self = shared_from_this()] { self->Produce(); })) {
    End(absl::ResourceExhaustedError("too many calls are under way; ask again"));
  }
}

void PullStream::OnWriteDone(bool ok) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    phase_ = Phase::kProducing;
    woken_ = false;
  }
  if (!ok) return End(absl::CancelledError("the client went away"));
  Produce();
}

void PullStream::OnCancel() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    if (phase_ != Phase::kWaiting) return;  // the write fails, or whoever is producing sees it
    phase_ = Phase::kProducing;
  }
  End(absl::CancelledError("the client went away"));
}

// From phase kProducing.
void PullStream::End(const absl::Status& status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    phase_ = Phase::kEnded;
  }
  if (job_ != nullptr) job_->Forget(this);
  guard_->End();
  resources_.metrics->OnCall("Pull", status, Clock::Real()->Monotonic() - started_);
  reactor_->Finish(ToGrpcStatus(status));  // from here on it may be gone
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartPull(StreamResources& resources, grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request) {
  auto stream = std::make_shared<PullStream>(resources);
  auto* reactor = new PullReactor(stream);
  stream->Begin(reactor, context, request);
  return reactor;
}

}  // namespace penstock
