#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include <grpcpp/impl/codegen/proto_utils.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "services/parameter/frame.h"
#include "services/parameter/limits.h"
#include "services/parameter/stream_guard.h"
#include "services/parameter/streams.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

class PushStream final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  PushStream(StreamResources& resources, grpc::CallbackServerContext* context, grpc::ByteBuffer* response)
      : resources_(resources),
        response_(response),
        started_(Clock::Real()->Monotonic()),
        slot_(resources.pushes, kPushStreamsMax),
        guard_(StreamGuard::Start(context)) {
    if (!slot_.taken()) {
      End(absl::ResourceExhaustedError(
          absl::StrCat("this shard takes ", kPushStreamsMax, " push streams at a time; ask again")));
      return;
    }
    StartRead(&buffer_);
  }

  // A chunk is checked and copied while the next one comes in. gRPC may say so on another thread: then the one that is
  // at work takes that chunk, too, so that no more than two are in memory.
  void OnReadDone(bool ok) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (taking_) {
        waiting_ = ok ? Waiting::kChunk : Waiting::kEnd;
        return;
      }
      taking_ = true;
    }
    for (bool more = true; more;) {
      // A client that goes away ends here, too: what it has sent stays, and nobody reads the answer.
      if (!ok) return End(Answer());
      grpc::ByteBuffer chunk;
      chunk.Swap(&buffer_);
      StartRead(&buffer_);
      // Ended by us, a stream is still `taking_`: what comes in after that is left alone.
      if (const absl::Status status = Take(chunk); !status.ok()) return End(status);
      std::lock_guard<std::mutex> lock(mutex_);
      ok = waiting_ != Waiting::kEnd;
      more = taking_ = waiting_ != Waiting::kNothing;
      waiting_ = Waiting::kNothing;
    }
  }

  void OnDone() override { delete this; }

 private:
  absl::Status Take(grpc::ByteBuffer& chunk) {
    PENSTOCK_ASSIGN_OR_RETURN(PushFrame frame, ParsePushFrame(chunk));
    chunk.Clear();
    if (job_ == nullptr) {
      PENSTOCK_ASSIGN_OR_RETURN(job_, resources_.jobs->Find(frame.job_id));
      epoch_ = frame.epoch;
      step_ = frame.step;
      PENSTOCK_RETURN_IF_ERROR(job_->PushBegin(epoch_, step_));
    }
    PENSTOCK_ASSIGN_OR_RETURN(const uint64_t elements, job_->PushChunk(epoch_, step_, frame));
    elements_ += elements;
    resources_.metrics->OnPushBytes(elements * sizeof(float));
    return absl::OkStatus();
  }

  absl::Status Answer() {
    v1::PushResponse response;
    response.set_elements(elements_);
    bool own = false;
    return ToAbslStatus(grpc::GenericSerialize<grpc::ProtoBufferWriter, v1::PushResponse>(response, response_, &own));
  }

  void End(const absl::Status& status) {
    guard_->End();
    resources_.metrics->OnCall("Push", status, Clock::Real()->Monotonic() - started_);
    Finish(ToGrpcStatus(status));
  }

  StreamResources& resources_;
  grpc::ByteBuffer* const response_;
  const absl::Time started_;
  const StreamSlot slot_;
  const std::shared_ptr<StreamGuard> guard_;
  // Of the read under way.
  grpc::ByteBuffer buffer_;

  enum class Waiting { kNothing, kChunk, kEnd };
  std::mutex mutex_;
  // A thread is in Take, and what has come in meanwhile.
  bool taking_ ABSL_GUARDED_BY(mutex_) = false;
  Waiting waiting_ ABSL_GUARDED_BY(mutex_) = Waiting::kNothing;

  // Of the thread that takes. From the first chunk.
  std::shared_ptr<ShardJob> job_;
  uint64_t epoch_ = 0;
  uint64_t step_ = 0;
  uint64_t elements_ = 0;
};

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* StartPush(StreamResources& resources, grpc::CallbackServerContext* context,
                                                     grpc::ByteBuffer* response) {
  return new PushStream(resources, context, response);
}

}  // namespace penstock
