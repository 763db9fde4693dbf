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

// What one call needs until it ends.
template <typename Request, typename Response>
struct Call {
  std::shared_ptr<ShardClient::Impl> shard;
  std::shared_ptr<grpc::ClientContext> context = std::make_shared<grpc::ClientContext>();
  Request request;
  Response response;
};

template <typename Request, typename Response>
void Start(const std::shared_ptr<ShardClient::Impl>& shard, const char* name, Method<Request, Response> method,
           const Request& request, const CallOptions& options, ShardClient::Done<Response> done) {
  auto call = std::make_shared<Call<Request, Response>>();
  call->shard = shard;
  call->request = request;
  SetDeadline(*call->context, options.timeout);
  CallGroup* const group = options.group;
  if (group != nullptr) {
    if (const absl::Status entered = group->Enter(call->context); !entered.ok()) return done(entered);
  }
  (shard->stub->async()->*method)(call->context.get(), &call->request, &call->response,
                                  [call, group, name, done = std::move(done)](const grpc::Status& status) {
                                    absl::Status result = call->shard->Convert(status, name);
                                    if (group != nullptr) {
                                      group->Leave(call->context);
                                      if (absl::IsCancelled(result) && group->cancelled()) result = group->status();
                                    }
                                    if (!result.ok()) return done(result);
                                    done(std::move(call->response));
                                  });
}

template <typename Request, typename Response>
absl::StatusOr<Response> Wait(const std::shared_ptr<ShardClient::Impl>& shard, const char* name,
                              Method<Request, Response> method, const Request& request, const CallOptions& options) {
  std::promise<absl::StatusOr<Response>> promise;
  std::future<absl::StatusOr<Response>> future = promise.get_future();
  Start<Request, Response>(shard, name, method, request, options,
                           [&promise](absl::StatusOr<Response> reply) { promise.set_value(std::move(reply)); });
  return future.get();
}

}  // namespace

ShardClient::ShardClient(const std::string& name, const std::string& address) : impl_(std::make_shared<Impl>()) {
  impl_->name = name;
  impl_->address = address;
  impl_->channel = CreateChannel(address);
  impl_->stub = v1::ParameterShard::NewStub(impl_->channel);
}
ShardClient::~ShardClient() = default;

const std::string& ShardClient::name() const { return impl_->name; }
const std::string& ShardClient::address() const { return impl_->address; }

absl::Status ShardClient::Impl::Convert(const grpc::Status& status, const char* method) const {
  if (status.ok()) return absl::OkStatus();
  return ToAbslStatus(status, absl::StrCat(name, ": ", method), address);
}

#define PENSTOCK_SHARD_CALL(NAME)                                                                                      \
  absl::StatusOr<v1::NAME##Response> ShardClient::NAME(const v1::NAME##Request& request, const CallOptions& options) { \
    return Wait<v1::NAME##Request, v1::NAME##Response>(impl_, #NAME, &AsyncStub::NAME, request, options);              \
  }                                                                                                                    \
  void ShardClient::NAME##Async(const v1::NAME##Request& request, const CallOptions& options,                          \
                                Done<v1::NAME##Response> done) {                                                       \
    Start<v1::NAME##Request, v1::NAME##Response>(impl_, #NAME, &AsyncStub::NAME, request, options, std::move(done));   \
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
