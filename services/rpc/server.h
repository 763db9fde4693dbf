// A gRPC server as every role runs it: its services, health, reflection, keepalive, limits.
//
//   RpcServer::Options options;
//   options.address = "127.0.0.1:0";
//   options.services = {&coordinator_service, &membership_service};
//   PENSTOCK_ASSIGN_OR_RETURN(auto server, RpcServer::Start(options));
//   server->address();      // "127.0.0.1:41737"
//   ...
//   server->Drain();        // health says NOT_SERVING, calls are still answered
//   server->Stop();         // or the destructor
//
// grpc.health.v1.Health answers for "" and for every service's full name. Thread-safe. The services are the caller's
// and outlive the server.
#ifndef PENSTOCK_SERVICES_RPC_SERVER_H_
#define PENSTOCK_SERVICES_RPC_SERVER_H_

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/limits.h"

namespace penstock {

class RpcServer {
 public:
  struct Options {
    // "host:port"; port 0 takes any free one.
    std::string address = "127.0.0.1:0";
    // Synchronous, callback or raw, in any mix.
    std::vector<grpc::Service*> services;
    size_t message_bytes_max = kRpcMessageBytesMax;
    int threads_max = kRpcServerThreadsMax;
    // How long Start goes on trying while the address is in use: for a role that comes back to the port it had.
    absl::Duration bind_timeout = absl::ZeroDuration();
  };

  // INVALID_ARGUMENT for an address that is none, ALREADY_EXISTS for one in use, UNAVAILABLE where this machine can't
  // listen there; each names the address.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Options& options);
  // Stops.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const { return port_; }
  // The host of the options with the port that was taken.
  const std::string& address() const { return address_; }

  // Tells health checks that no new work should come. Calls are answered as before.
  void Drain();
  // No new calls; those under way have `grace` to end, then they are cancelled. Returns when all handlers are done.
  void Stop(absl::Duration grace = kRpcStopGrace);

 private:
  RpcServer(std::unique_ptr<grpc::Server> server, std::string address, int port);

  // Constant after construction.
  const std::string address_;
  const int port_;
  const std::unique_ptr<grpc::Server> server_;

  std::mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_SERVER_H_
