// The calls of one message each. Push and Pull: shard_client_streams.cc.
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/parameter/client.h"
#include "services/parameter/client_internal.h"
#include "services/rpc/channel.h"
#include "services/rpc/deadline.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

using AsyncStub = v1::ParameterShard::StubInterface::async_interface;

template <typename Request, typename Response>
using Method = void (AsyncStub::*)(grpc::ClientContext*, const Request*, Response*, std::function<void(grpc::Status)>);

// One call under way. Freed by its end.
template <typename Request, typename Response>
struct Call {
  const ShardClient::Impl* shard = nullptr;
  std::shared_ptr<CallsUnderWay> calls;
  const char* name = nullptr;
  CallGroup* group = nullptr;
  std::shared_ptr<grpc::ClientContext> context = std::make_shared<grpc::ClientContext>();
  Request request;
  Response response;
  ShardClient::Done<Response> done;

  void Leave() {
    if (group != nullptr) group->Leave(context);
    calls->group.Leave(context);
  }
};

template <typename Request, typename Response>
void End(Call<Request, Response>* ended, const grpc::Status& status) {
  std::unique_ptr<Call<Request, Response>> call(ended);
  call->Leave();
  absl::StatusOr<Response> reply = std::move(call->response);
  if (!status.ok()) reply = call->shard->Convert(status, call->name);
  if (absl::IsCancelled(reply.status()) && call->group != nullptr && call->group->cancelled()) {
    reply = call->group->status();
  }
  const ShardClient::Done<Response> done = std::move(call->done);
  const std::shared_ptr<CallsUnderWay> calls = call->calls;
  // The context holds on to the channel, and a channel must not go on this thread, which is gRPC's own: its last one
  // would wait here for itself. So the context goes before the client's destructor is let through.
  call.reset();
  done(std::move(reply));
  calls->End();
}

template <typename Request, typename Response>
void Start(const ShardClient::Impl& shard, const char* name, Method<Request, Response> method, const Request& request,
           const CallOptions& options, ShardClient::Done<Response> done) {
  auto call = std::make_unique<Call<Request, Response>>();
  call->shard = &shard;
  call->calls = shard.calls;
  call->name = name;
  call->group = options.group;
  call->request = request;
  SetDeadline(*call->context, options.timeout);
  absl::Status entered = shard.calls->group.Enter(call->context);
  if (entered.ok() && options.group != nullptr) entered = options.group->Enter(call->context);
  if (!entered.ok()) {
    call->Leave();
    return done(entered);
  }
  call->done = std::move(done);
  shard.calls->Begin();
  Call<Request, Response>* const started = call.release();
  (shard.stub->async()->*method)(started->context.get(), &started->request, &started->response,
                                 [started](const grpc::Status& status) { End(started, status); });
}

template <typename Request, typename Response>
absl::StatusOr<Response> Wait(const ShardClient::Impl& shard, const char* name, Method<Request, Response> method,
                              const Request& request, const CallOptions& options) {
  const auto promise = std::make_shared<std::promise<absl::StatusOr<Response>>>();
  Start<Request, Response>(shard, name, method, request, options,
                           [promise](absl::StatusOr<Response> reply) { promise->set_value(std::move(reply)); });
  return promise->get_future().get();
}

}  // namespace

ShardClient::ShardClient(const std::string& name, const std::string& address) : impl_(std::make_unique<Impl>()) {
  impl_->name = name;
  impl_->address = address;
  impl_->channel = CreateChannel(address);
  impl_->stub = v1::ParameterShard::NewStub(impl_->channel);
}
ShardClient::~ShardClient() {
  impl_->calls->group.Cancel("the client is gone");
  impl_->calls->WaitForNone();
}

const std::string& ShardClient::name() const { return impl_->name; }
const std::string& ShardClient::address() const { return impl_->address; }

absl::Status ShardClient::Impl::Convert(const grpc::Status& status, const char* method) const {
  if (status.ok()) return absl::OkStatus();
  return ToAbslStatus(status, absl::StrCat(name, ": ", method), address);
}

#define PENSTOCK_SHARD_CALL(NAME)                                                                                      \
  absl::StatusOr<v1::NAME##Response> ShardClient::NAME(const v1::NAME##Request& request, const CallOptions& options) { \
    return Wait<v1::NAME##Request, v1::NAME##Response>(*impl_, #NAME, &AsyncStub::NAME, request, options);             \
  }                                                                                                                    \
  void ShardClient::NAME##Async(const v1::NAME##Request& request, const CallOptions& options,                          \
                                Done<v1::NAME##Response> done) {                                                       \
    Start<v1::NAME##Request, v1::NAME##Response>(*impl_, #NAME, &AsyncStub::NAME, request, options, std::move(done));  \
  }

PENSTOCK_SHARD_CALL(OpenJob)
PENSTOCK_SHARD_CALL(CloseJob)
PENSTOCK_SHARD_CALL(Prepare)
PENSTOCK_SHARD_CALL(Commit)
PENSTOCK_SHARD_CALL(Seal)
PENSTOCK_SHARD_CALL(Decide)
PENSTOCK_SHARD_CALL(WriteCheckpoint)
PENSTOCK_SHARD_CALL(ReleaseSnapshot)
PENSTOCK_SHARD_CALL(GetDigest)
PENSTOCK_SHARD_CALL(GetSteps)
#undef PENSTOCK_SHARD_CALL

}  // namespace penstock
