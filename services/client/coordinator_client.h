// The coordinator as penstockctl sees it: each call with a deadline, each error naming the coordinator's address.
// Thread-compatible; owns its channel.
#ifndef PENSTOCK_SERVICES_CLIENT_COORDINATOR_CLIENT_H_
#define PENSTOCK_SERVICES_CLIENT_COORDINATOR_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"

namespace penstock {

class CoordinatorClient {
 public:
  // No call is made; an unreachable coordinator shows at the first one.
  CoordinatorClient(std::string address, absl::Duration timeout);

  const std::string& address() const { return address_; }

  // INVALID_ARGUMENT fills `violations` when the job itself is wrong.
  absl::StatusOr<v1::JobStatus> SubmitJob(const v1::JobSpec& spec, std::vector<v1::JobViolation>* violations);
  // The same for a job that isn't queued.
  absl::StatusOr<v1::PlanResponse> Plan(const v1::PlanRequest& request, std::vector<v1::JobViolation>* violations);
  absl::StatusOr<std::vector<v1::JobStatus>> ListJobs();
  absl::StatusOr<v1::JobStatus> GetJob(const std::string& job);
  absl::StatusOr<v1::JobStatus> CancelJob(const std::string& job);
  absl::StatusOr<std::vector<v1::StepRecord>> GetHistory(const std::string& job);
  absl::StatusOr<std::vector<v1::Event>> ListEvents(const std::string& job);
  absl::StatusOr<std::vector<v1::MemberStatus>> ListMembers(v1::MemberRole role);

  // Calls `on_response` for each message, until it returns false or the text ends.
  absl::Status Generate(const v1::GenerateRequest& request,
                        const std::function<bool(const v1::GenerateResponse&)>& on_response);

  // Calls `on_status` at every change until the job has ended, and returns its last status. A coordinator that goes
  // away is waited for, up to `away_limit`; `on_away` is told once each time.
  absl::StatusOr<v1::JobStatus> WatchJob(const std::string& job, absl::Duration away_limit,
                                         const std::function<void(const v1::JobStatus&)>& on_status,
                                         const std::function<void()>& on_away);

 private:
  const std::string address_;
  const absl::Duration timeout_;
  const std::unique_ptr<v1::Coordinator::Stub> stub_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_COORDINATOR_CLIENT_H_
