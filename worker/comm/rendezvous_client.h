// Rendezvous at the coordinator, over gRPC. Thread-safe.
#ifndef PENSTOCK_WORKER_COMM_RENDEZVOUS_CLIENT_H_
#define PENSTOCK_WORKER_COMM_RENDEZVOUS_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/parameter/call_group.h"
#include "worker/comm/rendezvous.h"

namespace penstock {

class RendezvousClient : public Rendezvous {
 public:
  RendezvousClient(const std::string& coordinator_address, std::string job_id, uint64_t epoch);

  absl::Status Set(const std::string& key, const std::string& value, absl::Duration timeout) override;
  absl::StatusOr<std::vector<std::string>> Get(const std::vector<std::string>& keys, absl::Duration timeout) override;
  void Cancel() override;

 private:
  // Calls until it succeeds, fails for good, or `timeout` is over.
  absl::Status Retry(const char* method, absl::Duration timeout,
                     const std::function<grpc::Status(grpc::ClientContext*)>& call);

  const std::string address_;
  const std::string job_id_;
  const uint64_t epoch_;
  const std::unique_ptr<v1::Rendezvous::Stub> stub_;
  CallGroup calls_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_RENDEZVOUS_CLIENT_H_
