#include "services/rpc/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/impl/server_initializer.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "services/rpc/address.h"
#include "services/rpc/grpc_log.h"
#include "services/rpc/listener.h"

namespace penstock {
namespace {

constexpr absl::Duration kBindRetryPause = absl::Milliseconds(50);

// Notes the full names of all services, which the server knows and doesn't tell otherwise.
class ServiceNames : public grpc::ServerBuilderOption {
 public:
  explicit ServiceNames(std::vector<std::string>* names) : names_(names) {}

  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->push_back(std::make_unique<Plugin>(names_));
  }

 private:
  class Plugin : public grpc::ServerBuilderPlugin {
   public:
    explicit Plugin(std::vector<std::string>* names) : names_(names) {}
    std::string name() override { return "penstock.service_names"; }
    void InitServer(grpc::ServerInitializer*) override {}
    void Finish(grpc::ServerInitializer* server) override { *names_ = *server->GetServiceList(); }
    void ChangeArguments(const std::string&, void*) override {}

   private:
    std::vector<std::string>* const names_;
  };

  std::vector<std::string>* const names_;
};

// The server, listening; null when it can't listen, for a reason that gRPC keeps to itself.
std::unique_ptr<grpc::Server> BuildServer(const RpcServer::Options& options, const HostPort& address, int* port) {
  std::vector<std::string> names;
  grpc::ServerBuilder builder;
  builder.SetOption(std::make_unique<ServiceNames>(&names));
  builder.AddListeningPort(address.ToString(), grpc::InsecureServerCredentials(), port);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.message_bytes_max));
  builder.SetMaxSendMessageSize(static_cast<int>(options.message_bytes_max));
  grpc::ResourceQuota quota("penstock");
  quota.SetMaxThreads(options.threads_max);
  builder.SetResourceQuota(quota);
  // Two servers on one port would share its connections without a word.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kRpcStreamWindowBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kRpcKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kRpcKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kRpcPingIntervalMsMin);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return nullptr;
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, "grpc.")) server->GetHealthCheckService()->SetServingStatus(name, true);
  }
  return server;
}

// Why nothing can listen there: tries it.
absl::Status WhyNot(const HostPort& address) {
  PENSTOCK_ASSIGN_OR_RETURN(const int socket, OpenListener(address));
  close(socket);
  return absl::UnavailableError(absl::StrCat("can't serve at ", address.ToString(), "; the log may say why"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const Options& options) {
  PENSTOCK_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.address));
  RouteGrpcLog();
  grpc::EnableDefaultHealthCheckService(true);
  const absl::Time deadline = absl::Now() + options.bind_timeout;
  while (true) {
    // Asked first, so that the usual error is ours and not a page of gRPC's.
    absl::Status status = absl::OkStatus();
    if (auto socket = OpenListener(address); socket.ok()) {
      close(*socket);
      int port = 0;
      std::unique_ptr<grpc::Server> server = BuildServer(options, address, &port);
      if (server != nullptr && port != 0) {
        address.port = port;
        return std::unique_ptr<RpcServer>(new RpcServer(std::move(server), address.ToString(), port));
      }
      status = WhyNot(address);
    } else {
      status = socket.status();
    }
    if (!absl::IsAlreadyExists(status) || absl::Now() >= deadline) return status;
    absl::SleepFor(kBindRetryPause);
  }
}

RpcServer::RpcServer(std::unique_ptr<grpc::Server> server, std::string address, int port)
    : address_(std::move(address)), port_(port), server_(std::move(server)) {}

RpcServer::~RpcServer() { Stop(); }

void RpcServer::Drain() { server_->GetHealthCheckService()->SetServingStatus(false); }

void RpcServer::Stop(absl::Duration grace) {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
  }
  Drain();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
}

}  // namespace penstock
