#include "services/parameter/server.h"

#include <map>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/telemetry/http_server.h"

namespace penstock {
namespace {

uint64_t DrawIncarnation() {
  std::random_device device;
  const uint64_t value = (static_cast<uint64_t>(device()) << 32) | device();
  return value == 0 ? 1 : value;
}

}  // namespace

ParameterServer::ParameterServer(const Options& options)
    : metrics_("params"),
      server_metrics_(metrics_),
      budget_(options.memory_bytes_max),
      compute_(options.threads - 1),  // the thread that asks for work does its share
      resources_{.budget = &budget_,
                 .compute = &compute_,
                 .blobs = options.blobs != nullptr ? options.blobs : &LocalDisk(),
                 .incarnation = options.incarnation != 0 ? options.incarnation : DrawIncarnation()},
      jobs_(resources_),
      service_(jobs_, server_metrics_) {}

absl::StatusOr<std::unique_ptr<ParameterServer>> ParameterServer::Start(const Options& options) {
  if (options.threads < 1 || options.threads > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("a shard has 1 to 1024 threads, not ", options.threads));
  }
  std::unique_ptr<ParameterServer> server(new ParameterServer(options));
  RpcServer::Options rpc;
  rpc.address = options.address;
  rpc.services = {&server->service_};
  PENSTOCK_ASSIGN_OR_RETURN(server->rpc_, RpcServer::Start(rpc));
  if (!options.metrics_address.empty()) {
    ParameterServer* here = server.get();
    HttpServer::Options http;
    http.address = options.metrics_address;
    http.pages["/metrics"] = [here] {
      here->server_metrics_.Update(here->jobs_, here->budget_);
      return HttpPage{"text/plain; version=0.0.4; charset=utf-8", here->metrics_.ExportText()};
    };
    PENSTOCK_ASSIGN_OR_RETURN(server->http_, HttpServer::Start(std::move(http)));
  }
  return server;
}

ParameterServer::~ParameterServer() { Stop(); }

void ParameterServer::Stop() {
  jobs_.Stop();
  if (rpc_ != nullptr) rpc_->Stop();
}

std::string ParameterServer::metrics_address() const { return http_ != nullptr ? http_->address() : ""; }

}  // namespace penstock
