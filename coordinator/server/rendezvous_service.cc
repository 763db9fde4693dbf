#include "coordinator/server/rendezvous_service.h"

#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "services/rpc/status.h"

namespace penstock {
namespace {

// A GetValues that waits. Answers once: with the values, or when its caller is gone or out of time.
class WaitingGet final : public grpc::ServerUnaryReactor {
 public:
  WaitingGet(RendezvousTable* table, v1::GetValuesResponse* response) : table_(table), response_(response) {}

  // `self` keeps it alive until gRPC is done with it.
  void Begin(const v1::GetValuesRequest& request, std::shared_ptr<WaitingGet> self) {
    self_ = self;
    const uint64_t waiter =
        table_->Wait(request.job_id(), request.epoch(), {request.keys().begin(), request.keys().end()},
                     [self](absl::StatusOr<std::vector<std::string>> values) { self->Answer(std::move(values)); });
    bool cancelled = false;
    {
      std::lock_guard lock(mutex_);
      waiter_ = waiter;
      cancelled = cancelled_;
    }
    if (cancelled) table_->Cancel(waiter);
  }

  // gRPC cancels a call at its deadline, too; its caller sees DEADLINE_EXCEEDED by itself.
  void OnCancel() override {
    std::optional<uint64_t> waiter;
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
      waiter = waiter_;
    }
    if (waiter.has_value()) table_->Cancel(*waiter);
  }

  void OnDone() override { const std::shared_ptr<WaitingGet> last = std::move(self_); }

 private:
  void Answer(absl::StatusOr<std::vector<std::string>> values) {
    if (values.ok()) {
      for (std::string& value : *values) *response_->add_values() = std::move(value);
    }
    Finish(ToGrpcStatus(values.status()));
  }

  RendezvousTable* const table_;
  v1::GetValuesResponse* const response_;
  std::shared_ptr<WaitingGet> self_;

  std::mutex mutex_;
  std::optional<uint64_t> waiter_;
  bool cancelled_ = false;
};

}  // namespace

grpc::ServerUnaryReactor* RendezvousService::SetValue(grpc::CallbackServerContext* context,
                                                      const v1::SetValueRequest* request, v1::SetValueResponse*) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(table_->Set(request->job_id(), request->epoch(), request->key(), request->value())));
  return reactor;
}

grpc::ServerUnaryReactor* RendezvousService::GetValues(grpc::CallbackServerContext*,
                                                       const v1::GetValuesRequest* request,
                                                       v1::GetValuesResponse* response) {
  const auto waiting = std::make_shared<WaitingGet>(table_, response);
  waiting->Begin(*request, waiting);
  return waiting.get();
}

}  // namespace penstock
