#include "worker/comm/rendezvous_client.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "services/rpc/channel.h"
#include "services/rpc/deadline.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

// Of one attempt; the coordinator may have been replaced meanwhile.
constexpr absl::Duration kAttemptTimeout = absl::Seconds(5);
constexpr absl::Duration kRetryPause = absl::Milliseconds(100);

}  // namespace

RendezvousClient::RendezvousClient(const std::string& coordinator_address, std::string job_id, uint64_t epoch)
    : address_(coordinator_address),
      job_id_(std::move(job_id)),
      epoch_(epoch),
      stub_(v1::Rendezvous::NewStub(CreateChannel(coordinator_address))) {}

absl::Status RendezvousClient::Set(const std::string& key, const std::string& value, absl::Duration timeout) {
  v1::SetValueRequest request;
  request.set_job_id(job_id_);
  request.set_epoch(epoch_);
  request.set_key(key);
  request.set_value(value);
  return Retry("Rendezvous.SetValue", timeout, [&](grpc::ClientContext* context) {
    v1::SetValueResponse response;
    return stub_->SetValue(context, request, &response);
  });
}

absl::StatusOr<std::vector<std::string>> RendezvousClient::Get(const std::vector<std::string>& keys,
                                                               absl::Duration timeout) {
  v1::GetValuesRequest request;
  request.set_job_id(job_id_);
  request.set_epoch(epoch_);
  for (const std::string& key : keys) request.add_keys(key);
  v1::GetValuesResponse response;
  PENSTOCK_RETURN_IF_ERROR(Retry("Rendezvous.GetValues", timeout, [&](grpc::ClientContext* context) {
    return stub_->GetValues(context, request, &response);
  }));
  if (response.values_size() != request.keys_size()) {
    return absl::InternalError(absl::StrCat("the coordinator answered ", response.values_size(), " values for ",
                                            request.keys_size(), " keys"));
  }
  return std::vector<std::string>(response.values().begin(), response.values().end());
}

void RendezvousClient::Cancel() { calls_.Cancel("the rendezvous was cancelled"); }

absl::Status RendezvousClient::Retry(const char* method, absl::Duration timeout,
                                     const std::function<grpc::Status(grpc::ClientContext*)>& call) {
  const absl::Time deadline = Clock::Real()->Monotonic() + timeout;
  while (true) {
    const absl::Duration left = deadline - Clock::Real()->Monotonic();
    const auto context = std::make_shared<grpc::ClientContext>();
    SetDeadline(*context, std::clamp(left, absl::Milliseconds(1), kAttemptTimeout));
    PENSTOCK_RETURN_IF_ERROR(calls_.Enter(context));
    const grpc::Status result = call(context.get());
    calls_.Leave(context);
    PENSTOCK_RETURN_IF_ERROR(calls_.status());
    absl::Status status = ToAbslStatus(result, method, address_);
    const bool transient = absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
    if (!transient) return status;
    if (Clock::Real()->Monotonic() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(status.message()));
    }
    // A wait that ran into its own deadline asks again at once.
    if (absl::IsUnavailable(status)) calls_.WaitCancelled(kRetryPause);
  }
}

}  // namespace penstock
