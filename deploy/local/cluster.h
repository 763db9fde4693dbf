// A whole cluster of real processes on this machine: one coordinator, some parameter shards, some workers.
//
// Everything lives in one folder: logs/, the coordinator's store, and cluster.json, which names addresses and pids and
// is rewritten whenever a process was started again. Use it from the main thread alone (see process.h).
#ifndef PENSTOCK_DEPLOY_LOCAL_CLUSTER_H_
#define PENSTOCK_DEPLOY_LOCAL_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "deploy/local/process.h"
#include "grpcpp/channel.h"

namespace penstock {

class LocalCluster {
 public:
  struct Options {
    // Folder of the binaries, or of the build's output tree.
    std::string binary_folder;
    std::string directory;
    int workers = 4;
    int params = 2;
    // Compute threads of each worker; 0 shares the processor's threads out between the workers, at least one each.
    int threads = 0;
    // What the workers compute on, one after the other and again from the first: cpu, cuda:0, ...
    std::vector<std::string> devices = {"cpu"};
    // The workers' --device_links.
    std::string device_links = "auto";
    // The workers' --operation_times.
    bool operation_times = false;
    // Of the coordinator; 0 means any free one.
    int port = 0;
    absl::Duration lease = absl::Seconds(2);
    // Which dead processes are started again. A dead worker stays dead unless asked for: the cluster shows what it
    // does.
    bool restart_coordinator = true;
    bool restart_params = true;
    bool restart_workers = false;
    // Workers that ended because only a new process can use their device again (kExitForAnother).
    bool restart_after_lost_device = true;
    // How long the processes may take to answer. (A GPU's libraries are large: several workers that read them from a
    // cold disk take a while.)
    absl::Duration start_limit = absl::Seconds(120);
    // One line for people about what happens; may be empty.
    std::function<void(const std::string&)> say;
  };

  // Starts the processes and waits until all of them have registered; then writes cluster.json. On failure everything
  // started is ended, and the status carries the last lines of the log that tells most.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(Options options);

  // Stops the cluster.
  ~LocalCluster();

  const std::string& coordinator_address() const { return coordinator_address_; }

  // Looks after the processes: says who died, starts again what should be. Call it often; it doesn't block for long.
  // An error means that the cluster can't go on (a process that dies again and again).
  absl::Status Supervise();

  // Ends workers, shards and coordinator in this order, politely first. Idempotent.
  void Stop();

 private:
  // A place in the cluster, held by one process after the other.
  struct Member {
    enum class Role { kCoordinator, kParams, kWorker };
    Role role;
    std::string id;
    std::string device = {};  // of a worker
    std::unique_ptr<ChildProcess> process = nullptr;
    bool reported_dead = false;
    // When it was started again, for the limit on restarts.
    std::vector<absl::Time> restarts = {};
  };
  struct Addresses {
    std::string address;
    std::string metrics;
  };

  explicit LocalCluster(Options options);

  absl::Status StartAll();
  absl::Status StartCoordinator(Member& member);
  absl::Status StartMember(Member& member);
  // Waits for every shard and worker to be registered by its living process, and learns their addresses.
  absl::Status WaitForMembers(bool starting);
  absl::Status WriteClusterFile() const;
  absl::Status Restart(Member& member);
  bool ShouldRestart(const Member& member) const;
  absl::Status DeadMemberError(const Member& member) const;
  std::string Binary(const std::string& bundle_name, const std::string& tree_path) const;
  std::string LogPath(const std::string& id) const;
  void Say(const std::string& line) const;

  const Options options_;
  std::vector<Member> members_;
  std::string coordinator_address_;
  std::string coordinator_metrics_;
  std::shared_ptr<grpc::Channel> channel_;
  absl::flat_hash_map<std::string, Addresses> addresses_;
};

}  // namespace penstock

#endif  // PENSTOCK_DEPLOY_LOCAL_CLUSTER_H_
