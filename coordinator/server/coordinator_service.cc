#include "coordinator/server/coordinator_service.h"

#include <algorithm>
#include <future>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/rpc/deadline.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

// A store that is further behind doesn't keep a reader waiting.
constexpr absl::Duration kFlushMax = absl::Seconds(5);

std::string RandomId() {
  std::random_device device;
  return absl::StrCat(absl::Hex(device() & 0xffffff, absl::kZeroPad6), absl::Hex(device() & 0xffffff, absl::kZeroPad6));
}

grpc::Status Refuse(const std::vector<v1::JobViolation>& violations) {
  v1::JobViolations details;
  std::string message;
  for (const v1::JobViolation& violation : violations) {
    *details.add_violations() = violation;
    absl::StrAppend(&message, message.empty() ? "" : "\n", violation.field(), ": ", violation.message());
  }
  return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, message, details.SerializeAsString());
}

void SetTimestamp(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  out->set_seconds(seconds);
  out->set_nanos(static_cast<int32_t>((time - absl::FromUnixSeconds(seconds)) / absl::Nanoseconds(1)));
}

std::chrono::nanoseconds PatienceOf(const grpc::ServerContext& context) {
  return absl::ToChronoNanoseconds(std::clamp(TimeLeft(context), absl::ZeroDuration(), kServiceWaitMax));
}

// Until the answer is there, the call's time is over, its client is gone, or the server stops.
template <typename T>
absl::Status WaitFor(std::future<T>& answer, const grpc::ServerContext& context) {
  constexpr std::chrono::milliseconds kLook(50);
  const auto deadline = std::chrono::steady_clock::now() + PatienceOf(context);
  while (answer.wait_for(kLook) != std::future_status::ready) {
    if (context.IsCancelled()) return absl::CancelledError("the call was cancelled");
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError("the scheduler didn't answer in time");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::JobStatus> CoordinatorService::Ask(grpc::ServerContext* context,
                                                      const std::function<void(Done)>& ask) {
  const auto promise = std::make_shared<std::promise<absl::StatusOr<v1::JobStatus>>>();
  std::future<absl::StatusOr<v1::JobStatus>> answer = promise->get_future();
  ask([promise](absl::StatusOr<v1::JobStatus> status) { promise->set_value(std::move(status)); });
  PENSTOCK_RETURN_IF_ERROR(WaitFor(answer, *context));
  return answer.get();
}

grpc::Status CoordinatorService::SubmitJob(grpc::ServerContext* context, const v1::SubmitJobRequest* request,
                                           v1::SubmitJobResponse* response) {
  if (request->request_id().size() > kRequestIdBytesMax) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                        absl::StrCat("a request id has at most ", kRequestIdBytesMax, " bytes"));
  }
  StoredJob job;
  job.id = RandomId();
  // Without one the sender can't ask again.
  job.request_id = request->request_id().empty() ? job.id : request->request_id();
  const auto known = Ask(context, [&](Done done) { parts_.scheduler->FindRequest(job.request_id, std::move(done)); });
  if (known.ok()) {
    *response->mutable_job() = *known;
    return grpc::Status::OK;
  }
  if (!absl::IsNotFound(known.status())) return ToGrpcStatus(known.status());
  job.spec = request->spec();
  std::vector<std::string> notes;
  const std::vector<v1::JobViolation> violations = parts_.intake->Prepare(&job.spec, &notes);
  if (!violations.empty()) return Refuse(violations);
  const auto members = Members(context, v1::MEMBER_ROLE_UNSPECIFIED);
  if (!members.ok()) return ToGrpcStatus(members.status());
  const absl::StatusOr<std::vector<std::string>> planned = parts_.planner->Resolve(*members, &job.spec);
  if (!planned.ok()) return ToGrpcStatus(planned.status());
  job.submitted_at = parts_.clock->Now();
  const auto status = Ask(context, [&](Done done) { parts_.scheduler->Submit(job, std::move(done)); });
  if (!status.ok()) return ToGrpcStatus(status.status());
  for (const std::string& line : *planned) parts_.writer->AddEvent({parts_.clock->Now(), job.id, 0, line});
  for (const std::string& note : notes) parts_.writer->AddEvent({parts_.clock->Now(), job.id, 0, note});
  *response->mutable_job() = *status;
  return grpc::Status::OK;
}

grpc::Status CoordinatorService::Plan(grpc::ServerContext* context, const v1::PlanRequest* request,
                                      v1::PlanResponse* response) {
  v1::PlanRequest prepared = *request;
  const std::vector<v1::JobViolation> violations = parts_.intake->Prepare(prepared.mutable_spec());
  if (!violations.empty()) return Refuse(violations);
  const auto members = Members(context, v1::MEMBER_ROLE_UNSPECIFIED);
  if (!members.ok()) return ToGrpcStatus(members.status());
  absl::StatusOr<FoundPlan> found = parts_.planner->Plan(prepared, *members);
  if (!found.ok()) return ToGrpcStatus(found.status());
  response->set_chosen(ChosenText(prepared.spec(), *found));
  *response->mutable_plan() = std::move(found->plan);
  for (v1::MeshPlan& plan : found->alternatives) *response->add_alternatives() = std::move(plan);
  *response->mutable_spec() = std::move(found->spec);
  return grpc::Status::OK;
}

grpc::Status CoordinatorService::ListJobs(grpc::ServerContext*, const v1::ListJobsRequest*,
                                          v1::ListJobsResponse* response) {
  for (const SharedStatus& status : parts_.board->All()) *response->add_jobs() = *status;
  return grpc::Status::OK;
}

grpc::Status CoordinatorService::GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                                        v1::JobStatus* response) {
  const auto found = parts_.board->Find(request->job());
  if (found.ok()) *response = **found;
  return ToGrpcStatus(found.status());
}

grpc::ServerWriteReactor<v1::JobStatus>* CoordinatorService::WatchJob(grpc::CallbackServerContext*,
                                                                      const v1::GetJobRequest* request) {
  return parts_.watches->Watch(request->job());
}

grpc::Status CoordinatorService::GetHistory(grpc::ServerContext* context, const v1::GetHistoryRequest* request,
                                            grpc::ServerWriter<v1::GetHistoryResponse>* writer) {
  const auto found = parts_.board->Find(request->job());
  if (!found.ok()) return ToGrpcStatus(found.status());
  // What was reported before the call is in the answer, unless the store is that far behind.
  parts_.writer->Flush(std::min(TimeLeft(*context), kFlushMax));
  uint64_t from = request->from_step();
  while (!context->IsCancelled()) {
    const auto records = parts_.store->ReadSteps((*found)->id(), from, kHistoryBlock);
    if (!records.ok()) return ToGrpcStatus(records.status());
    if (records->empty()) break;
    v1::GetHistoryResponse block;
    for (const v1::StepRecord& record : *records) *block.add_records() = record;
    if (!writer->Write(block)) break;
    from = records->back().step() + 1;
  }
  return grpc::Status::OK;
}

grpc::Status CoordinatorService::ListEvents(grpc::ServerContext* context, const v1::ListEventsRequest* request,
                                            v1::ListEventsResponse* response) {
  std::string id;
  if (!request->job().empty()) {
    const auto found = parts_.board->Find(request->job());
    if (!found.ok()) return ToGrpcStatus(found.status());
    id = (*found)->id();
  }
  parts_.writer->Flush(std::min(TimeLeft(*context), kFlushMax));
  const auto events = parts_.store->ReadEvents(id, kListedEventsMax);
  if (!events.ok()) return ToGrpcStatus(events.status());
  std::map<std::string, std::string> names;
  for (const SharedStatus& status : parts_.board->All()) names[status->id()] = status->name();
  for (const StoredEvent& stored : *events) {
    v1::Event& event = *response->add_events();
    SetTimestamp(stored.time, event.mutable_time());
    const auto name = names.find(stored.job_id);
    event.set_job(name == names.end() ? stored.job_id : name->second);
    event.set_epoch(stored.epoch);
    event.set_message(stored.message);
  }
  return grpc::Status::OK;
}

grpc::Status CoordinatorService::CancelJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                                           v1::JobStatus* response) {
  const auto found = parts_.board->Find(request->job());
  if (!found.ok()) return ToGrpcStatus(found.status());
  const auto status = Ask(context, [&](Done done) { parts_.scheduler->Cancel((*found)->id(), std::move(done)); });
  if (status.ok()) *response = *status;
  return ToGrpcStatus(status.status());
}

absl::StatusOr<std::vector<v1::MemberStatus>> CoordinatorService::Members(grpc::ServerContext* context,
                                                                          v1::MemberRole role) {
  const auto promise = std::make_shared<std::promise<std::vector<v1::MemberStatus>>>();
  auto answer = promise->get_future();
  parts_.scheduler->ListMembers(
      role, [promise](std::vector<v1::MemberStatus> members) { promise->set_value(std::move(members)); });
  PENSTOCK_RETURN_IF_ERROR(WaitFor(answer, *context));
  return answer.get();
}

grpc::Status CoordinatorService::ListMembers(grpc::ServerContext* context, const v1::ListMembersRequest* request,
                                             v1::ListMembersResponse* response) {
  absl::StatusOr<std::vector<v1::MemberStatus>> members = Members(context, request->role());
  if (!members.ok()) return ToGrpcStatus(members.status());
  for (v1::MemberStatus& member : *members) *response->add_members() = std::move(member);
  return grpc::Status::OK;
}

grpc::Status CoordinatorService::Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                          grpc::ServerWriter<v1::GenerateResponse>* writer) {
  const auto workers = Members(context, v1::MEMBER_ROLE_WORKER);
  if (!workers.ok()) return ToGrpcStatus(workers.status());
  return ToGrpcStatus(forwarder_.Forward(*context, *request, *workers, parts_.intake->root(), *writer));
}

}  // namespace penstock
