// Serves a process's metrics at http://ADDRESS/metrics.
//
//   PENSTOCK_ASSIGN_OR_RETURN(auto server, MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen), metrics));
//   server->address();      // "127.0.0.1:39217"
//
// Thread-safe; one thread of its own. Stops at once in its destructor. The metrics outlive the server.
#ifndef PENSTOCK_SERVICES_TELEMETRY_METRICS_SERVER_H_
#define PENSTOCK_SERVICES_TELEMETRY_METRICS_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/telemetry/http_server.h"
#include "services/telemetry/metrics.h"

namespace penstock {

class MetricsServer {
 public:
  // "host:port"; port 0 takes any free one. INVALID_ARGUMENT, ALREADY_EXISTS for an address in use, or UNAVAILABLE;
  // each names the address.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address, const Metrics& metrics);

  int port() const { return http_->port(); }
  const std::string& address() const { return http_->address(); }

 private:
  explicit MetricsServer(std::unique_ptr<HttpServer> http);

  const std::unique_ptr<HttpServer> http_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_TELEMETRY_METRICS_SERVER_H_
