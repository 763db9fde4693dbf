// Push and Pull of one shard: raw byte buffers on a completion queue of the call's own, so that the caller's thread
// does the copying and nothing of the call outlives it.
#include <algorithm>
#include <utility>

#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/parameter/client_internal.h"
#include "services/parameter/frame.h"
#include "services/parameter/limits.h"
#include "services/rpc/deadline.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

// One call under way. One operation at a time, each begun and then waited for.
class RawCall {
 public:
  static absl::StatusOr<std::unique_ptr<RawCall>> Start(const ShardClient::Impl& shard, const char* method,
                                                        const CallOptions& options) {
    std::unique_ptr<RawCall> call(new RawCall(shard, method, options.group));
    SetDeadline(*call->context_, options.timeout);
    if (options.group != nullptr) {
      PENSTOCK_RETURN_IF_ERROR(options.group->Enter(call->context_));
      call->entered_ = true;
    }
    grpc::GenericStub stub(shard.channel);
    call->stream_ =
        stub.PrepareCall(call->context_.get(), absl::StrCat("/penstock.v1.ParameterShard/", method), &call->queue_);
    call->stream_->StartCall(nullptr);
    call->intact_ = call->Next();
    return call;
  }

  ~RawCall() {
    if (entered_) group_->Leave(context_);
    stream_.reset();
    queue_.Shutdown();
    while (queue_.Next(&tag_, &ok_)) {
    }
  }

  // Begins the write when the one before is done. False when the stream is broken; Finish() says why.
  bool Write(const grpc::ByteBuffer& buffer) {
    if (!WaitWritten()) return false;
    stream_->Write(buffer, nullptr);
    writing_ = true;
    return true;
  }
  bool WritesDone() {
    if (!WaitWritten()) return false;
    stream_->WritesDone(nullptr);
    return intact_ = Next();
  }
  // False at the stream's end.
  bool Read(grpc::ByteBuffer* buffer) {
    stream_->Read(buffer, nullptr);
    return Next();
  }
  // The call's end. Cancels it first when `cancel`: the server is not to go on.
  absl::Status Finish(bool cancel = false) {
    WaitWritten();
    if (cancel) context_->TryCancel();
    grpc::Status status;
    stream_->Finish(&status, nullptr);
    Next();
    const absl::Status result = shard_.Convert(status, method_);
    if (absl::IsCancelled(result) && group_ != nullptr && group_->cancelled()) return group_->status();
    return result;
  }

 private:
  RawCall(const ShardClient::Impl& shard, const char* method, CallGroup* group)
      : shard_(shard), method_(method), group_(group), context_(std::make_shared<grpc::ClientContext>()) {}

  bool Next() { return queue_.Next(&tag_, &ok_) && ok_; }
  bool WaitWritten() {
    if (!writing_) return intact_;
    writing_ = false;
    return intact_ = Next() && intact_;
  }

  const ShardClient::Impl& shard_;
  const char* const method_;
  CallGroup* const group_;
  const std::shared_ptr<grpc::ClientContext> context_;
  bool entered_ = false;
  bool intact_ = true;
  bool writing_ = false;
  void* tag_ = nullptr;
  bool ok_ = false;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

// Where the next chunk of a pull belongs.
class Destination {
 public:
  explicit Destination(std::span<const PullRange> ranges)
      : ranges_(ranges), rounded_(!ranges.empty() && ranges.front().rounded != nullptr) {
    for (const PullRange& range : ranges) {
      missing_ += range.range.size();
      PENSTOCK_CHECK((range.rounded != nullptr) == rounded_);
    }
  }

  bool rounded() const { return rounded_; }

  uint64_t missing() const { return missing_; }

  // Checks the chunk and copies it. INTERNAL for one that isn't the next.
  absl::Status Take(const PullFrame& frame) {
    PENSTOCK_RETURN_IF_ERROR(CheckPayload(frame.payload, frame.begin, frame.crc32c, ElementBytes()));
    const uint64_t elements = frame.payload.size() / ElementBytes();
    while (index_ < ranges_.size() && offset_ == ranges_[index_].range.size()) {
      ++index_;
      offset_ = 0;
    }
    if (index_ == ranges_.size()) return absl::InternalError("the shard sent more than it was asked for");
    const PullRange& range = ranges_[index_];
    const uint64_t expected = range.range.begin + offset_;
    if (frame.begin != expected || elements > static_cast<uint64_t>(range.range.size() - offset_)) {
      return absl::InternalError(absl::StrCat("the shard sent [", frame.begin, ", ", frame.begin + elements,
                                              ") where the chunk at ", expected, " was to come"));
    }
    uint8_t* const to = rounded_ ? reinterpret_cast<uint8_t*>(range.rounded + offset_)
                                 : reinterpret_cast<uint8_t*>(range.data + offset_);
    frame.payload.CopyTo(0, {to, frame.payload.size()});
    offset_ += elements;
    missing_ -= elements;
    return absl::OkStatus();
  }

 private:
  size_t ElementBytes() const { return rounded_ ? sizeof(Bfloat16) : sizeof(float); }

  const std::span<const PullRange> ranges_;
  const bool rounded_;
  size_t index_ = 0;
  int64_t offset_ = 0;
  uint64_t missing_ = 0;
};

grpc::ByteBuffer Serialize(const v1::PullRequest& request) {
  grpc::ByteBuffer buffer;
  bool own = false;
  (void)grpc::GenericSerialize<grpc::ProtoBufferWriter, v1::PullRequest>(request, &buffer, &own);
  return buffer;
}

}  // namespace

absl::Status ShardClient::Push(const std::string& job_id, uint64_t epoch, uint64_t step,
                               std::span<const PushRange> ranges, const CallOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<RawCall> call, RawCall::Start(*impl_, "Push", options));
  bool first = true;
  bool intact = true;
  for (const PushRange& range : ranges) {
    for (const ElementRange& part : SplitBySize(range.range, kChunkElements)) {
      if (!intact) break;
      const std::span<const float> elements(range.data + (part.begin - range.range.begin), part.size());
      // The frame is made while the one before is on its way.
      intact = call->Write(MakePushFrame(first ? job_id : "", epoch, step, part.begin, elements, range.kind));
      first = false;
    }
  }
  grpc::ByteBuffer answer;
  if (intact && call->WritesDone()) call->Read(&answer);
  return call->Finish();
}

absl::Status ShardClient::Pull(const std::string& job_id, uint64_t epoch, uint64_t version,
                               std::span<const PullRange> ranges, const CallOptions& options, uint64_t* received) {
  v1::PullRequest request;
  request.set_job_id(job_id);
  request.set_epoch(epoch);
  request.set_version(version);
  for (const PullRange& range : ranges) {
    v1::ElementRange* asked = request.add_ranges();
    asked->set_begin(range.range.begin);
    asked->set_end(range.range.end);
    asked->set_state_kind(range.kind);
  }
  Destination destination(ranges);
  request.set_bf16(destination.rounded());
  const uint64_t wanted = destination.missing();
  if (received != nullptr) *received = 0;
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<RawCall> call, RawCall::Start(*impl_, "Pull", options));
  grpc::ByteBuffer buffer;
  if (call->Write(Serialize(request)) && call->WritesDone()) {
    while (call->Read(&buffer)) {
      absl::StatusOr<PullFrame> frame = ParsePullFrame(buffer);
      const absl::Status taken = frame.ok() ? destination.Take(*frame) : frame.status();
      if (received != nullptr) *received = wanted - destination.missing();
      if (!taken.ok()) {
        (void)call->Finish(/*cancel=*/true);
        return absl::Status(taken.code(),
                            absl::StrCat(impl_->name, ": Pull at ", impl_->address, ": ", taken.message()));
      }
      buffer.Clear();
    }
  }
  PENSTOCK_RETURN_IF_ERROR(call->Finish());
  if (destination.missing() == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(impl_->name, ": Pull at ", impl_->address, ": the stream ended ",
                                          destination.missing(), " elements too early"));
}

}  // namespace penstock
