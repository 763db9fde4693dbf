// A coordinator that only knows Membership.Join, for tests: it remembers what it was told, and says what it is told to.
//
// Thread-safe.
#ifndef PENSTOCK_SERVICES_MEMBERSHIP_FAKE_COORDINATOR_H_
#define PENSTOCK_SERVICES_MEMBERSHIP_FAKE_COORDINATOR_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"

namespace penstock {

class FakeCoordinator final : public v1::Membership::Service {
 public:
  FakeCoordinator() = default;
  ~FakeCoordinator() override { Stop(); }

  // Serves at "127.0.0.1:port"; port 0 takes a free one. False when it can't.
  bool Serve(int port = 0);
  // Goes away, like a process that was killed: streams break.
  void Stop();
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }

  // Breaks the streams that are open; the server stays.
  void BreakStreams();
  // Answers every Hello from now on with this status instead of a Welcome; OK ends that.
  void RefuseWith(grpc::Status status);
  // Doesn't welcome anybody from now on.
  void StaySilent(bool silent);
  // On the newest stream. False when there is none.
  bool Send(const v1::MemberCommand& command);

  // Waits until what was reported so far, over all streams, satisfies `condition`; at most 10 s.
  using Reports = std::vector<v1::MemberReport>;
  bool WaitFor(const std::function<bool(const Reports&)>& condition);
  Reports reports();
  // Waits until streams were ended by their member (half-closed), not by us.
  bool WaitForGoodbye();

  absl::Duration heartbeat_interval = absl::Milliseconds(20);

 private:
  using Stream = grpc::ServerReaderWriter<v1::MemberCommand, v1::MemberReport>;
  grpc::Status Join(grpc::ServerContext* context, Stream* stream) override;

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Reports reports_;
  std::vector<grpc::ServerContext*> contexts_;
  Stream* newest_ = nullptr;
  grpc::Status refusal_;
  bool silent_ = false;
  int goodbyes_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_MEMBERSHIP_FAKE_COORDINATOR_H_
