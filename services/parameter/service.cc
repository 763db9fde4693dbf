#include "services/parameter/service.h"

#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "services/parameter/limits.h"
#include "services/parameter/waiting_call.h"

namespace penstock {

ParameterService::ParameterService(JobTable& jobs, ServerMetrics& metrics)
    : jobs_(jobs), metrics_(metrics), long_pool_(kLongThreads, kTasksMax), update_pool_(kUpdateThreads, kTasksMax) {
  streams_.jobs = &jobs;
  streams_.pool = &update_pool_;
  streams_.metrics = &metrics;
}

grpc::ServerReadReactor<grpc::ByteBuffer>* ParameterService::Push(grpc::CallbackServerContext* context,
                                                                  grpc::ByteBuffer* response) {
  return StartPush(streams_, context, response);
}
grpc::ServerWriteReactor<grpc::ByteBuffer>* ParameterService::Pull(grpc::CallbackServerContext* context,
                                                                   const grpc::ByteBuffer* request) {
  return StartPull(streams_, context, request);
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* ParameterService::StartWaiting(const char* method, const Request* request, Response* response,
                                                         absl::StatusOr<Progress> (ShardJob::*call)(const Request&,
                                                                                                    const WaiterPtr&,
                                                                                                    Response*)) {
  // The job of the first attempt stays the call's: one that is opened anew meanwhile is another one.
  auto job = std::make_shared<std::shared_ptr<ShardJob>>();
  const auto try_once = [=, this](const WaiterPtr& waiter) -> absl::StatusOr<Progress> {
    if (*job == nullptr) {
      PENSTOCK_ASSIGN_OR_RETURN(*job, jobs_.Find(request->job_id()));
    }
    return ((**job).*call)(*request, waiter, response);
  };
  const absl::Time started = Clock::Real()->Monotonic();
  return WaitingCall::Start(
      update_pool_,
      [=, this](const WaiterPtr& waiter) -> std::optional<absl::Status> {
        const absl::StatusOr<Progress> progress = try_once(waiter);
        if (progress.ok() && *progress == Progress::kWaiting) return std::nullopt;
        metrics_.OnCall(method, progress.status(), Clock::Real()->Monotonic() - started);
        return progress.status();
      },
      [job](const Waiter* waiter) {
        if (*job != nullptr) (*job)->Forget(waiter);
      });
}

grpc::ServerUnaryReactor* ParameterService::StartPlain(const char* method, ThreadPool& pool,
                                                       std::function<absl::Status()> call) {
  const absl::Time started = Clock::Real()->Monotonic();
  return WaitingCall::Start(
      pool, [this, method, started, call = std::move(call)](const WaiterPtr&) -> std::optional<absl::Status> {
        const absl::Status status = call();
        metrics_.OnCall(method, status, Clock::Real()->Monotonic() - started);
        return status;
      });
}

grpc::ServerUnaryReactor* ParameterService::OpenJob(grpc::CallbackServerContext*, const v1::OpenJobRequest* request,
                                                    v1::OpenJobResponse* response) {
  return StartPlain("OpenJob", long_pool_, [=, this]() -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(*response, jobs_.Open(*request));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ParameterService::CloseJob(grpc::CallbackServerContext*, const v1::CloseJobRequest* request,
                                                     v1::CloseJobResponse*) {
  return StartPlain("CloseJob", long_pool_, [=, this] { return jobs_.Close(*request); });
}

grpc::ServerUnaryReactor* ParameterService::Prepare(grpc::CallbackServerContext*, const v1::PrepareRequest* request,
                                                    v1::PrepareResponse* response) {
  return StartWaiting("Prepare", request, response, &ShardJob::Prepare);
}

grpc::ServerUnaryReactor* ParameterService::Commit(grpc::CallbackServerContext*, const v1::CommitRequest* request,
                                                   v1::CommitResponse* response) {
  return StartWaiting("Commit", request, response, &ShardJob::Commit);
}

grpc::ServerUnaryReactor* ParameterService::Seal(grpc::CallbackServerContext*, const v1::SealRequest* request,
                                                 v1::SealResponse* response) {
  return StartWaiting("Seal", request, response, &ShardJob::Seal);
}

grpc::ServerUnaryReactor* ParameterService::Decide(grpc::CallbackServerContext*, const v1::DecideRequest* request,
                                                   v1::DecideResponse* response) {
  return StartWaiting("Decide", request, response, &ShardJob::Decide);
}

grpc::ServerUnaryReactor* ParameterService::WriteCheckpoint(grpc::CallbackServerContext*,
                                                            const v1::WriteCheckpointRequest* request,
                                                            v1::WriteCheckpointResponse* response) {
  return StartPlain("WriteCheckpoint", long_pool_, [=, this]() -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<ShardJob> job, jobs_.Find(request->job_id()));
    PENSTOCK_ASSIGN_OR_RETURN(*response, job->WriteCheckpoint(*request));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ParameterService::ReleaseSnapshot(grpc::CallbackServerContext*,
                                                            const v1::ReleaseSnapshotRequest* request,
                                                            v1::ReleaseSnapshotResponse*) {
  return StartPlain("ReleaseSnapshot", update_pool_, [=, this]() -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<ShardJob> job, jobs_.Find(request->job_id()));
    job->ReleaseSnapshot(request->step());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ParameterService::GetDigest(grpc::CallbackServerContext*, const v1::GetDigestRequest* request,
                                                      v1::GetDigestResponse* response) {
  return StartPlain("GetDigest", long_pool_, [=, this]() -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<ShardJob> job, jobs_.Find(request->job_id()));
    PENSTOCK_ASSIGN_OR_RETURN(*response, job->GetDigest(request->step()));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ParameterService::GetSteps(grpc::CallbackServerContext*, const v1::GetStepsRequest* request,
                                                     v1::GetStepsResponse* response) {
  return StartPlain("GetSteps", update_pool_, [=, this]() -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<ShardJob> job, jobs_.Find(request->job_id()));
    *response = job->GetSteps(request->from_step());
    return absl::OkStatus();
  });
}

}  // namespace penstock
