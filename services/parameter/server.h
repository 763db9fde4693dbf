// One shard of the parameter service, whole: jobs, gRPC server, metrics. What penstock-params runs, and tests in their
// own process.
//
//   ParameterServer::Options options;
//   options.threads = 4;
//   PENSTOCK_ASSIGN_OR_RETURN(auto server, ParameterServer::Start(options));
//   ShardClient client("shard 0", server->address());
//
// Thread-safe.
#ifndef PENSTOCK_SERVICES_PARAMETER_SERVER_H_
#define PENSTOCK_SERVICES_PARAMETER_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/parameter/job_table.h"
#include "services/parameter/memory_budget.h"
#include "services/parameter/server_metrics.h"
#include "services/parameter/service.h"
#include "services/parameter/thread_pool.h"
#include "services/rpc/server.h"
#include "services/storage/blobs.h"
#include "services/telemetry/http_server.h"
#include "services/telemetry/metrics.h"

namespace penstock {

class ParameterServer {
 public:
  struct Options {
    // "host:port"; port 0 takes any free one.
    std::string address = "127.0.0.1:0";
    // Of /metrics; empty for none.
    std::string metrics_address;
    // Threads that work on the numbers.
    int threads = 1;
    // Memory for jobs; 0 for no limit.
    uint64_t memory_bytes_max = 0;
    // Changes with every process; 0 draws one.
    uint64_t incarnation = 0;
    // Where checkpoints lie; null is the local disk. Not owned.
    Blobs* blobs = nullptr;
  };

  // The errors of RpcServer::Start and MetricsServer::Start; INVALID_ARGUMENT for fewer than one thread.
  static absl::StatusOr<std::unique_ptr<ParameterServer>> Start(const Options& options);
  // Stops.
  ~ParameterServer();
  ParameterServer(const ParameterServer&) = delete;
  ParameterServer& operator=(const ParameterServer&) = delete;

  const std::string& address() const { return rpc_->address(); }
  // Empty without one.
  std::string metrics_address() const;
  uint64_t incarnation() const { return resources_.incarnation; }
  JobTable& jobs() { return jobs_; }
  // What /metrics shows.
  const Metrics& metrics() const { return metrics_; }

  // Health says NOT_SERVING; calls are answered as before.
  void Drain() { rpc_->Drain(); }
  void Stop();

 private:
  explicit ParameterServer(const Options& options);

  // In the order in which they stand on each other.
  Metrics metrics_;
  ServerMetrics server_metrics_;
  MemoryBudget budget_;
  ThreadPool compute_;
  const ShardResources resources_;
  JobTable jobs_;
  ParameterService service_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_SERVER_H_
