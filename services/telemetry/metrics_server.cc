#include "services/telemetry/metrics_server.h"

#include <utility>

#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& address,
                                                                    const Metrics& metrics) {
  HttpServer::Options options;
  options.address = address;
  options.pages["/metrics"] = [&metrics] {
    return HttpPage{.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics.ExportText()};
  };
  options.pages["/"] = [] {
    return HttpPage{.content_type = "text/plain; charset=utf-8", .body = "Prometheus metrics: /metrics\n"};
  };
  PENSTOCK_ASSIGN_OR_RETURN(auto http, HttpServer::Start(std::move(options)));
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(http)));
}

MetricsServer::MetricsServer(std::unique_ptr<HttpServer> http) : http_(std::move(http)) {}

}  // namespace penstock
