// penstock-local: a whole cluster of real processes on one machine.
#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "deploy/local/cluster.h"
#include "services/base/flags.h"
#include "services/base/shutdown.h"

ABSL_FLAG(int, workers, 4, "worker processes");
ABSL_FLAG(int, params, 2, "parameter-service shards");
ABSL_FLAG(std::string, dir, "penstock-local.d", "folder of the cluster: logs, the coordinator's store, cluster.json");
ABSL_FLAG(int, threads, 0, "compute threads of each worker; 0 shares the processor out between the workers");
ABSL_FLAG(std::vector<std::string>, device, {"cpu"},
          "what the workers compute on: cpu, or cuda:N; of a list each worker in turn takes the next");
ABSL_FLAG(std::string, device_links, "auto", "how tensors get from GPU to GPU: the workers' flag of this name");
ABSL_FLAG(bool, operation_times, false, "where a step's time goes, in the workers' metrics: their flag of this name");
ABSL_FLAG(int, replicas, 1, "copies of each parameter shard; this version has 1");
ABSL_FLAG(int, port, 0, "port of the coordinator on 127.0.0.1; 0 takes any free one");
ABSL_FLAG(std::string, job, "", "a job file to submit and follow; the cluster ends with the job");
ABSL_FLAG(absl::Duration, lease, absl::Seconds(2), "how long a silent worker counts as alive");
ABSL_FLAG(
    std::string, restart, "coordinator,params",
    "which processes are started again when they die: a list of coordinator, params, workers; or none, which holds "
    "for workers that have lost their device, too");
ABSL_FLAG(std::string, bindir, "", "folder of the binaries; found by itself when empty");

namespace penstock {
namespace {

constexpr absl::Duration kSupervisionInterval = absl::Milliseconds(100);

void Say(const std::string& line) { std::fprintf(stderr, "penstock-local: %s\n", line.c_str()); }

// The build's output tree, or the folder that all binaries lie in side by side: seen from this binary.
std::string FindBinaryFolder() {
  if (!absl::GetFlag(FLAGS_bindir).empty()) return absl::GetFlag(FLAGS_bindir);
  const std::filesystem::path folder = std::filesystem::canonical("/proc/self/exe").parent_path();
  if (std::filesystem::exists(folder / "penstock-coordinator")) return folder.string();
  return folder.parent_path().parent_path().string();
}

absl::StatusOr<LocalCluster::Options> OptionsFromFlags() {
  if (absl::GetFlag(FLAGS_replicas) != 1) {
    return absl::InvalidArgumentError("--replicas: this version keeps one copy of each parameter shard; use 1");
  }
  LocalCluster::Options options;
  options.binary_folder = FindBinaryFolder();
  options.directory = absl::GetFlag(FLAGS_dir);
  options.workers = absl::GetFlag(FLAGS_workers);
  options.params = absl::GetFlag(FLAGS_params);
  options.threads = absl::GetFlag(FLAGS_threads);
  options.devices = absl::GetFlag(FLAGS_device);
  if (options.devices.empty()) return absl::InvalidArgumentError("--device is empty: cpu, say, or cuda:0");
  options.device_links = absl::GetFlag(FLAGS_device_links);
  options.operation_times = absl::GetFlag(FLAGS_operation_times);
  options.port = absl::GetFlag(FLAGS_port);
  options.lease = absl::GetFlag(FLAGS_lease);
  if (options.threads < 0) return absl::InvalidArgumentError("--threads must be 0 or more");
  if (options.port < 0 || options.port > 65535)
    return absl::InvalidArgumentError("--port must lie between 0 and 65535");
  options.restart_coordinator = options.restart_params = options.restart_workers = false;
  for (absl::string_view role : absl::StrSplit(absl::GetFlag(FLAGS_restart), ',', absl::SkipWhitespace())) {
    if (role == "coordinator") {
      options.restart_coordinator = true;
    } else if (role == "params") {
      options.restart_params = true;
    } else if (role == "workers") {
      options.restart_workers = true;
    } else if (role == "none") {
      options.restart_after_lost_device = false;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--restart: '", role, "' is none of coordinator, params, workers, none"));
    }
  }
  options.say = Say;
  return options;
}

// The client that submits and follows the job of --job, on this terminal.
absl::StatusOr<std::unique_ptr<ChildProcess>> StartClient(const std::string& binary_folder,
                                                          const std::string& address) {
  std::string binary = absl::StrCat(binary_folder, "/penstockctl");
  if (!std::filesystem::exists(binary)) binary = absl::StrCat(binary_folder, "/services/client/penstockctl");
  ChildProcess::Options child;
  child.name = "penstockctl";
  child.arguments = {binary, absl::StrCat("--coordinator=", address), "job", "submit", absl::GetFlag(FLAGS_job)};
  return ChildProcess::Start(std::move(child));
}

// Waits for SIGINT or SIGTERM, or the end of the client, and looks after the cluster meanwhile. The exit code.
int RunUntilStopped(LocalCluster& cluster, ChildProcess* client) {
  while (!ShutdownSignal::WaitFor(kSupervisionInterval)) {
    if (absl::Status status = cluster.Supervise(); !status.ok()) {
      Say(std::string(status.message()));
      return 1;
    }
    if (client != nullptr && !client->Running()) return client->ExitCode();
  }
  Say("stopping");
  if (client != nullptr) client->Signal(SIGTERM);
  return 0;
}

int Main() {
  ShutdownSignal::Install();
  auto options = OptionsFromFlags();
  if (!options.ok()) {
    Say(std::string(options.status().message()));
    return 1;
  }
  const std::string binary_folder = options->binary_folder;
  Say(absl::StrCat("starting ", options->workers, " workers and ", options->params, " parameter shards in ",
                   options->directory));
  auto cluster = LocalCluster::Start(*std::move(options));
  if (!cluster.ok()) {
    Say(std::string(cluster.status().message()));
    return 1;
  }
  Say(absl::StrCat("the cluster is up; try: penstockctl --coordinator ", (*cluster)->coordinator_address(),
                   " worker list"));
  std::unique_ptr<ChildProcess> client;
  if (!absl::GetFlag(FLAGS_job).empty()) {
    auto started = StartClient(binary_folder, (*cluster)->coordinator_address());
    if (!started.ok()) {
      Say(std::string(started.status().message()));
      return 1;
    }
    client = *std::move(started);
  }
  const int code = RunUntilStopped(**cluster, client.get());
  (*cluster)->Stop();
  return code;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  penstock::ParseFlags(
      argc, argv,
      "penstock-local: a whole Penstock cluster of real processes on this machine.\n\n"
      "  penstock-local --workers 4 --params 2 --dir DIR [--job job.yaml]\n\n"
      "DIR/cluster.json names the addresses and pids once everything answers. Ctrl-C ends the cluster.");
  return penstock::Main();
}
