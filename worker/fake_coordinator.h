// The part of a coordinator that workers talk to, for tests of the worker's process: their streams, and a rendezvous.
// Thread-safe.
#ifndef PENSTOCK_WORKER_FAKE_COORDINATOR_H_
#define PENSTOCK_WORKER_FAKE_COORDINATOR_H_

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/rpc/server.h"

namespace penstock {

class FakeCoordinator : public v1::Membership::Service, public v1::Rendezvous::Service {
 public:
  // Aborts the test program when it can't listen.
  FakeCoordinator();
  ~FakeCoordinator() override;

  const std::string& address() const { return server_->address(); }

  // Waits until the worker has said Hello.
  bool WaitJoined(const std::string& worker);
  // False when the worker has no stream.
  bool Send(const std::string& worker, const v1::MemberCommand& command);

  // (worker, report) in the order in which they came, without heartbeats.
  using Reports = std::vector<std::pair<std::string, v1::MemberReport>>;
  bool WaitFor(const std::function<bool(const Reports&)>& condition, absl::Duration timeout = absl::Seconds(60));
  Reports reports() const;
  // Of the worker's last heartbeat.
  v1::Cursor cursor(const std::string& worker) const;

  grpc::Status Join(grpc::ServerContext* context,
                    grpc::ServerReaderWriter<v1::MemberCommand, v1::MemberReport>* stream) override;
  grpc::Status SetValue(grpc::ServerContext* context, const v1::SetValueRequest* request,
                        v1::SetValueResponse* response) override;
  grpc::Status GetValues(grpc::ServerContext* context, const v1::GetValuesRequest* request,
                         v1::GetValuesResponse* response) override;

 private:
  using Stream = grpc::ServerReaderWriter<v1::MemberCommand, v1::MemberReport>;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::map<std::string, Stream*> streams_;
  std::map<std::string, v1::Cursor> cursors_;
  std::map<std::string, std::string> values_;
  Reports reports_;

  std::unique_ptr<RpcServer> server_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_FAKE_COORDINATOR_H_
