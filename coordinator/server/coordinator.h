// One coordinator, whole: store, scheduler, services, metrics. What penstock-coordinator runs, and tests in their own
// process.
//
//   Coordinator::Options options;
//   options.store_path = "coordinator.sqlite";
//   PENSTOCK_ASSIGN_OR_RETURN(auto coordinator, Coordinator::Start(options));
//   coordinator->address();   // "127.0.0.1:41233"
//
// Thread-safe. Jobs go on without it when it stops; the next coordinator on the same store takes them up.
#ifndef PENSTOCK_COORDINATOR_SERVER_COORDINATOR_H_
#define PENSTOCK_COORDINATOR_SERVER_COORDINATOR_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/jobs/shard_calls.h"
#include "coordinator/store/store.h"
#include "core/commit/job_machine.h"
#include "services/base/clock.h"
#include "services/storage/blobs.h"

namespace penstock {

class Coordinator {
 public:
  struct Options {
    // "host:port"; port 0 takes any free one.
    std::string address = "127.0.0.1:0";
    // Of /metrics; empty for none.
    std::string metrics_address;
    // The SQLite file; made when there is none.
    std::string store_path;
    // Where relative paths in jobs start; empty: the working folder.
    std::string root;
    absl::Duration lease = absl::Seconds(2);
    // Beyond the lease: how long members may take to come back after a start.
    absl::Duration return_grace = absl::Seconds(3);
    // Limits and time-outs of each job; spec and adopt_timeout are filled in.
    JobMachine::Options machine;
    // How long to go on trying when the address is in use.
    absl::Duration bind_timeout = absl::Seconds(5);

    // In place of the real ones, for tests; not owned, and outlive the coordinator.
    const Clock* clock = nullptr;
    Store* store = nullptr;
    ShardCalls* shards = nullptr;
    Blobs* blobs = nullptr;
  };

  // The errors of SqliteStore::Open, RpcServer::Start and MetricsServer::Start; INVALID_ARGUMENT for a lease that is
  // too short.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(const Options& options);
  // Stops.
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  const std::string& address() const;
  // Empty without one.
  std::string metrics_address() const;

  // Health says NOT_SERVING; then streams are closed and calls under way ended. Idempotent.
  void Stop();

 private:
  struct Impl;
  explicit Coordinator(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_COORDINATOR_H_
