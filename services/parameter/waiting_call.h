// A unary call that may have to wait for a job's state, without holding one of gRPC's threads.
//
// The call makes attempts: one at once, one whenever it is woken. It ends with an attempt's status, with CANCELLED when
// its client goes away, or with DEADLINE_EXCEEDED after kWaitMax (a client's own deadline ends it earlier, at the
// client and here). Attempts come one at a time and never after the end, so an attempt may use request and response
// freely.
//
//   return WaitingCall::Start(context, pool, [=](const WaiterPtr& waiter) -> std::optional<absl::Status> {
//     auto progress = job->Prepare(*request, waiter, response);
//     if (progress.ok() && *progress == Progress::kWaiting) return std::nullopt;
//     return progress.status();
//   }, [job](const Waiter* waiter) { job->Forget(waiter); });
#ifndef PENSTOCK_SERVICES_PARAMETER_WAITING_CALL_H_
#define PENSTOCK_SERVICES_PARAMETER_WAITING_CALL_H_

#include <functional>
#include <memory>
#include <optional>

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "services/parameter/thread_pool.h"
#include "services/parameter/waiter.h"

namespace penstock {

class WaitingCall final : public grpc::ServerUnaryReactor {
 public:
  // Nothing: the waiter was registered and will be woken.
  using Attempt = std::function<std::optional<absl::Status>(const WaiterPtr&)>;
  // Called once, at the end, when the call may still be registered.
  using Forget = std::function<void(const Waiter*)>;

  // All attempts run on `pool`, which outlives the call. RESOURCE_EXHAUSTED when it is full. Owned by gRPC.
  static grpc::ServerUnaryReactor* Start(ThreadPool& pool, Attempt attempt, Forget forget = nullptr);

  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  class State;
  explicit WaitingCall(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const std::shared_ptr<State> state_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_WAITING_CALL_H_
