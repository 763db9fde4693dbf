// penstock-coordinator: flags, start, wait for the signal, stop.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "coordinator/server/coordinator.h"
#include "services/base/flags.h"
#include "services/base/log.h"
#include "services/base/shutdown.h"
#include "services/storage/blobs.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7070", "where to serve; port 0 takes any free one");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:9070",
          "where to serve /metrics; port 0 takes any free one; empty: nowhere");
ABSL_FLAG(std::string, store, "coordinator.sqlite", "the file with jobs, epochs and history; made when there is none");
ABSL_FLAG(std::string, root, "", "folder where relative paths in jobs start; empty: the working folder");
ABSL_FLAG(absl::Duration, lease, absl::Seconds(2),
          "how long a silent worker or shard is taken for alive; 2s on one machine, 10s elsewhere");
ABSL_FLAG(std::string, ready_file, "",
          "a file that is written, with both addresses as JSON, once the coordinator serves");

namespace penstock {
namespace {

constexpr char kUsage[] =
    "penstock-coordinator: queues jobs, assigns them to workers, and brings them through failures.\n"
    "It never touches a tensor. Running jobs go on while it is away; the next one on the same --store takes them up.";

absl::Status WriteReadyFile(const std::string& path, const Coordinator& coordinator) {
  if (path.empty()) return absl::OkStatus();
  return LocalDisk().WriteAtomic(
      path, std::string(absl::StrCat("{\"address\": \"", coordinator.address(), "\", \"metrics\": \"",
                                     coordinator.metrics_address(), "\"}\n")));
}

int Run() {
  Coordinator::Options options;
  options.address = absl::GetFlag(FLAGS_listen);
  options.metrics_address = absl::GetFlag(FLAGS_metrics_listen);
  options.store_path = absl::GetFlag(FLAGS_store);
  options.root = absl::GetFlag(FLAGS_root);
  options.lease = absl::GetFlag(FLAGS_lease);
  auto coordinator = Coordinator::Start(options);
  absl::Status status = coordinator.status();
  if (status.ok()) status = WriteReadyFile(absl::GetFlag(FLAGS_ready_file), **coordinator);
  if (!status.ok()) {
    LogError("can't start: {}", status);
    return EXIT_FAILURE;
  }
  LogInfo("serving at {}, metrics at {}", (*coordinator)->address(),
          (*coordinator)->metrics_address().empty() ? "nowhere" : (*coordinator)->metrics_address());
  ShutdownSignal::Wait();
  LogInfo("stopping; running jobs go on");
  (*coordinator)->Stop();
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  penstock::ShutdownSignal::Install();
  penstock::ParseFlags(argc, argv, penstock::kUsage);
  penstock::InitLog("coordinator");
  return penstock::Run();
}
