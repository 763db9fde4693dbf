// The Coordinator service over gRPC: translates, and nothing else. Reading calls are answered from the status board and
// the store; what changes something goes to the scheduler. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_SERVER_COORDINATOR_SERVICE_H_
#define PENSTOCK_COORDINATOR_SERVER_COORDINATOR_SERVICE_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/jobs/scheduler.h"
#include "coordinator/jobs/store_writer.h"
#include "coordinator/planning/planner.h"
#include "coordinator/server/generate_forwarder.h"
#include "coordinator/server/job_intake.h"
#include "coordinator/server/status_board.h"
#include "coordinator/server/watch_stream.h"
#include "coordinator/store/store.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/base/clock.h"

namespace penstock {

// Records in one message of GetHistory.
inline constexpr size_t kHistoryBlock = 1000;
inline constexpr size_t kListedEventsMax = 5000;
inline constexpr size_t kRequestIdBytesMax = 128;
// A call waits for the scheduler or the store at most so long, whatever its own deadline.
inline constexpr absl::Duration kServiceWaitMax = absl::Seconds(30);

class CoordinatorService final : public v1::Coordinator::WithCallbackMethod_WatchJob<v1::Coordinator::Service> {
 public:
  // Not owned; all outlive the service.
  struct Parts {
    Scheduler* scheduler = nullptr;
    StatusBoard* board = nullptr;
    Store* store = nullptr;
    StoreWriter* writer = nullptr;
    const JobIntake* intake = nullptr;
    WatchStreams* watches = nullptr;
    const Planner* planner = nullptr;
    const Clock* clock = nullptr;
  };
  explicit CoordinatorService(Parts parts) : parts_(parts), forwarder_(parts.board) {}

  grpc::Status SubmitJob(grpc::ServerContext* context, const v1::SubmitJobRequest* request,
                         v1::SubmitJobResponse* response) override;
  grpc::Status ListJobs(grpc::ServerContext* context, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override;
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request, v1::JobStatus* response) override;
  grpc::ServerWriteReactor<v1::JobStatus>* WatchJob(grpc::CallbackServerContext* context,
                                                    const v1::GetJobRequest* request) override;
  grpc::Status GetHistory(grpc::ServerContext* context, const v1::GetHistoryRequest* request,
                          grpc::ServerWriter<v1::GetHistoryResponse>* writer) override;
  grpc::Status ListEvents(grpc::ServerContext* context, const v1::ListEventsRequest* request,
                          v1::ListEventsResponse* response) override;
  grpc::Status CancelJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                         v1::JobStatus* response) override;
  grpc::Status ListMembers(grpc::ServerContext* context, const v1::ListMembersRequest* request,
                           v1::ListMembersResponse* response) override;
  grpc::Status Plan(grpc::ServerContext* context, const v1::PlanRequest* request, v1::PlanResponse* response) override;
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;

 private:
  using Done = Scheduler::Done;
  // Calls `ask` with a callback and waits for it: DEADLINE_EXCEEDED when the call's time is over.
  absl::StatusOr<v1::JobStatus> Ask(grpc::ServerContext* context, const std::function<void(Done)>& ask);
  absl::StatusOr<std::vector<v1::MemberStatus>> Members(grpc::ServerContext* context, v1::MemberRole role);

  const Parts parts_;
  GenerateForwarder forwarder_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_COORDINATOR_SERVICE_H_
