#include "services/client/coordinator_client.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_state.h"
#include "services/rpc/channel.h"
#include "services/rpc/deadline.h"

namespace penstock {
namespace {

// A generation lasts as long as its text; nobody waits longer for one.
constexpr absl::Duration kGenerateTimeMax = absl::Hours(1);
constexpr absl::Duration kReconnectPause = absl::Milliseconds(200);

// The same submission sent twice (a retry after a lost answer) is one job.
std::string RandomRequestId() {
  std::random_device device;
  return absl::StrCat(absl::Hex(device(), absl::kZeroPad8), absl::Hex(device(), absl::kZeroPad8),
                      absl::Hex(device(), absl::kZeroPad8), absl::Hex(device(), absl::kZeroPad8));
}

// A status for people: what was asked of whom.
absl::Status Explain(const grpc::Status& status, const std::string& address) {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(absl::StrCat("no coordinator answers at ", address, " (", status.error_message(),
                                               "); is it running? --coordinator or $PENSTOCK_COORDINATOR names it"));
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(
        absl::StrCat("the coordinator at ", address, " did not answer in time; --timeout sets the limit"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

template <typename T>
std::vector<T> ToVector(const google::protobuf::RepeatedPtrField<T>& field) {
  return {field.begin(), field.end()};
}

void ReadViolations(const grpc::Status& status, std::vector<v1::JobViolation>* violations) {
  v1::JobViolations details;
  if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT && details.ParseFromString(status.error_details())) {
    *violations = ToVector(details.violations());
  }
}

}  // namespace

CoordinatorClient::CoordinatorClient(std::string address, absl::Duration timeout)
    : address_(std::move(address)), timeout_(timeout), stub_(v1::Coordinator::NewStub(CreateChannel(address_))) {}

absl::StatusOr<v1::JobStatus> CoordinatorClient::SubmitJob(const v1::JobSpec& spec,
                                                           std::vector<v1::JobViolation>* violations) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  request.set_request_id(RandomRequestId());
  v1::SubmitJobResponse response;
  const grpc::Status status = stub_->SubmitJob(&context, request, &response);
  ReadViolations(status, violations);
  PENSTOCK_RETURN_IF_ERROR(Explain(status, address_));
  return response.job();
}

absl::StatusOr<v1::PlanResponse> CoordinatorClient::Plan(const v1::PlanRequest& request,
                                                         std::vector<v1::JobViolation>* violations) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::PlanResponse response;
  const grpc::Status status = stub_->Plan(&context, request, &response);
  ReadViolations(status, violations);
  PENSTOCK_RETURN_IF_ERROR(Explain(status, address_));
  return response;
}

absl::StatusOr<std::vector<v1::JobStatus>> CoordinatorClient::ListJobs() {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::ListJobsResponse response;
  PENSTOCK_RETURN_IF_ERROR(Explain(stub_->ListJobs(&context, {}, &response), address_));
  return ToVector(response.jobs());
}

absl::StatusOr<v1::JobStatus> CoordinatorClient::GetJob(const std::string& job) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::GetJobRequest request;
  request.set_job(job);
  v1::JobStatus response;
  PENSTOCK_RETURN_IF_ERROR(Explain(stub_->GetJob(&context, request, &response), address_));
  return response;
}

absl::StatusOr<v1::JobStatus> CoordinatorClient::CancelJob(const std::string& job) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::GetJobRequest request;
  request.set_job(job);
  v1::JobStatus response;
  PENSTOCK_RETURN_IF_ERROR(Explain(stub_->CancelJob(&context, request, &response), address_));
  return response;
}

absl::StatusOr<std::vector<v1::StepRecord>> CoordinatorClient::GetHistory(const std::string& job) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::GetHistoryRequest request;
  request.set_job(job);
  auto reader = stub_->GetHistory(&context, request);
  std::vector<v1::StepRecord> records;
  v1::GetHistoryResponse response;
  while (reader->Read(&response)) records.insert(records.end(), response.records().begin(), response.records().end());
  PENSTOCK_RETURN_IF_ERROR(Explain(reader->Finish(), address_));
  return records;
}

absl::StatusOr<std::vector<v1::Event>> CoordinatorClient::ListEvents(const std::string& job) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::ListEventsRequest request;
  request.set_job(job);
  v1::ListEventsResponse response;
  PENSTOCK_RETURN_IF_ERROR(Explain(stub_->ListEvents(&context, request, &response), address_));
  return ToVector(response.events());
}

absl::StatusOr<std::vector<v1::MemberStatus>> CoordinatorClient::ListMembers(v1::MemberRole role) {
  grpc::ClientContext context;
  SetDeadline(context, timeout_);
  v1::ListMembersRequest request;
  request.set_role(role);
  v1::ListMembersResponse response;
  PENSTOCK_RETURN_IF_ERROR(Explain(stub_->ListMembers(&context, request, &response), address_));
  return ToVector(response.members());
}

absl::Status CoordinatorClient::Generate(const v1::GenerateRequest& request,
                                         const std::function<bool(const v1::GenerateResponse&)>& on_response) {
  grpc::ClientContext context;
  SetDeadline(context, kGenerateTimeMax);
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (on_response(response)) continue;
    context.TryCancel();
    (void)reader->Finish();
    return absl::OkStatus();
  }
  return Explain(reader->Finish(), address_);
}

absl::StatusOr<v1::JobStatus> CoordinatorClient::WatchJob(const std::string& job, absl::Duration away_limit,
                                                          const std::function<void(const v1::JobStatus&)>& on_status,
                                                          const std::function<void()>& on_away) {
  v1::JobStatus last;
  absl::Time away_since = absl::InfiniteFuture();
  while (true) {
    // The only call without a deadline of its own: it lasts as long as the job. Keepalive finds a dead connection.
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_job(last.id().empty() ? job : last.id());
    auto reader = stub_->WatchJob(&context, request);
    v1::JobStatus status;
    while (reader->Read(&status)) {
      away_since = absl::InfiniteFuture();
      last = status;
      on_status(status);
    }
    const grpc::Status end = reader->Finish();
    if (IsEnded(last.state())) return last;
    const bool away = end.ok() || end.error_code() == grpc::StatusCode::UNAVAILABLE;
    // Nothing was ever seen: the user wants to know at once.
    if (!away || last.id().empty()) return Explain(end, address_);
    const absl::Time now = absl::Now();
    if (away_since == absl::InfiniteFuture()) {
      away_since = now;
      on_away();
    }
    if (now - away_since > away_limit) return Explain(end, address_);
    absl::SleepFor(kReconnectPause);
  }
}

}  // namespace penstock
