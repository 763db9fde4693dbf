// penstock-params: one shard of the parameter service.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/base/flags.h"
#include "services/base/heap.h"
#include "services/base/log.h"
#include "services/base/shutdown.h"
#include "services/membership/member.h"
#include "services/parameter/server.h"
#include "services/rpc/address.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:0", "host:port to serve at; port 0 takes any free one");
ABSL_FLAG(std::string, address, "",
          "host that workers and the coordinator reach this shard under; that of --listen when empty");
ABSL_FLAG(std::string, coordinator, "", "host:port of the coordinator (needed)");
ABSL_FLAG(std::string, id, "", "stable name of this shard in the cluster, params-0 say (needed)");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:0",
          "host:port of /metrics; port 0 takes any free one, empty has none");
ABSL_FLAG(int, threads, 0, "threads that work on weights and optimizer state; 0 takes all of the machine");
ABSL_FLAG(uint64_t, memory_bytes_max, 0, "memory that jobs may hold on this shard, in bytes; 0 sets no limit");

namespace penstock {
namespace {

constexpr char kUsage[] =
    "penstock-params: one shard of Penstock's parameter service. It holds weights and optimizer state\n"
    "of the jobs that the coordinator opens on it, in memory.\n"
    "\n"
    "  penstock-params --id=params-0 --coordinator=10.0.0.1:7000 --listen=10.0.0.2:0\n";

absl::Status CheckFlags() {
  if (absl::GetFlag(FLAGS_coordinator).empty()) {
    return absl::InvalidArgumentError("--coordinator is missing: the coordinator's host:port");
  }
  if (absl::GetFlag(FLAGS_id).empty()) return absl::InvalidArgumentError("--id is missing: params-0, say");
  if (absl::GetFlag(FLAGS_threads) < 0) return absl::InvalidArgumentError("--threads can't be negative");
  return ParseHostPort(absl::GetFlag(FLAGS_coordinator)).status();
}

int Threads() {
  const int asked = absl::GetFlag(FLAGS_threads);
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The server's address as others see it.
absl::StatusOr<std::string> AdvertisedAddress(const std::string& listening) {
  const std::string host = absl::GetFlag(FLAGS_address);
  if (host.empty()) return listening;
  PENSTOCK_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(listening));
  address.host = host;
  return address.ToString();
}

absl::Status Run() {
  PENSTOCK_RETURN_IF_ERROR(CheckFlags());
  ParameterServer::Options options;
  options.address = absl::GetFlag(FLAGS_listen);
  options.metrics_address = absl::GetFlag(FLAGS_metrics_listen);
  options.threads = Threads();
  options.memory_bytes_max = absl::GetFlag(FLAGS_memory_bytes_max);
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<ParameterServer> server, ParameterServer::Start(options));

  std::atomic<bool> refused = false;
  Member::Options member;
  member.coordinator_address = absl::GetFlag(FLAGS_coordinator);
  member.info.set_role(v1::MEMBER_ROLE_SHARD);
  member.info.set_id(absl::GetFlag(FLAGS_id));
  PENSTOCK_ASSIGN_OR_RETURN(*member.info.mutable_address(), AdvertisedAddress(server->address()));
  member.info.set_metrics_address(server->metrics_address());
  member.info.set_device("cpu");
  member.info.set_threads(options.threads);
  // The same as the Seal's answers carry, so that the coordinator can tell a shard that lost its memory.
  member.info.set_incarnation(server->incarnation());
  member.on_command = [](const v1::MemberCommand& command) {
    if (!command.has_welcome()) LogWarning("a command that isn't for a shard: {}", command.ShortDebugString());
  };
  member.on_refused = [&refused](const absl::Status&) {
    refused = true;
    ShutdownSignal::Request();
  };
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<Member> membership, Member::Start(std::move(member)));
  LogInfo("serving at {}, metrics at {}, coordinator {}", server->address(), server->metrics_address(),
          absl::GetFlag(FLAGS_coordinator));

  ShutdownSignal::Wait();
  LogInfo("stopping");
  server->Drain();
  membership->Stop();
  server->Stop();
  if (refused) return absl::AbortedError("another process has taken the id " + absl::GetFlag(FLAGS_id));
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  penstock::KeepFreedBlocks();
  penstock::ShutdownSignal::Install();
  penstock::ParseFlags(argc, argv, penstock::kUsage);
  penstock::InitLog(absl::GetFlag(FLAGS_id).empty() ? "params" : absl::GetFlag(FLAGS_id));
  const absl::Status status = penstock::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "penstock-params: %s\n", std::string(status.message()).c_str());
  return 1;
}
