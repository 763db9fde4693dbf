#include "deploy/local/cluster.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/base/shutdown.h"
#include "services/rpc/channel.h"

namespace penstock {
namespace {

// More starts of one process than this in a minute mean that it can't work.
constexpr int kRestartsPerMinuteMax = 5;
constexpr absl::Duration kPollInterval = absl::Milliseconds(20);
constexpr absl::Duration kStopLimit = absl::Seconds(10);
constexpr int kLogTailLines = 8;

absl::Status WriteFileAtomically(const std::string& path, const std::string& text) {
  const std::string temporary = absl::StrCat(path, ".new");
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << text;
    file.flush();
    if (!file) return absl::UnavailableError(absl::StrCat("can't write ", temporary));
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) return absl::UnavailableError(absl::StrCat("can't rename ", temporary, ": ", error.message()));
  return absl::OkStatus();
}

// The two addresses that a coordinator writes into its --ready_file: {"address": ..., "metrics": ...}.
bool ReadReadyFile(const std::string& path, std::string* address, std::string* metrics) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  google::protobuf::Struct json;
  if (!google::protobuf::util::JsonStringToMessage(text, &json).ok()) return false;
  *address = json.fields().count("address") ? json.fields().at("address").string_value() : "";
  *metrics = json.fields().count("metrics") ? json.fields().at("metrics").string_value() : "";
  return !address->empty();
}

}  // namespace

LocalCluster::LocalCluster(Options options) : options_(std::move(options)) {
  members_.push_back({Member::Role::kCoordinator, "coordinator"});
  for (int i = 0; i < options_.params; ++i) members_.push_back({Member::Role::kParams, absl::StrCat("params-", i)});
  for (size_t i = 0; i < static_cast<size_t>(options_.workers); ++i) {
    const std::string& device = options_.devices[i % options_.devices.size()];
    members_.push_back({Member::Role::kWorker, absl::StrCat("worker-", i), device});
  }
}

LocalCluster::~LocalCluster() { Stop(); }

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(Options options) {
  if (options.workers < 1) return absl::InvalidArgumentError("a cluster needs at least 1 worker");
  if (options.params < 1) return absl::InvalidArgumentError("a cluster needs at least 1 parameter shard");
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(options.directory) / "logs", error);
  if (error) {
    return absl::PermissionDeniedError(
        absl::StrCat("can't make the folder ", options.directory, "/logs: ", error.message()));
  }
  options.directory = std::filesystem::absolute(options.directory).lexically_normal().string();
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(std::move(options)));
  PENSTOCK_RETURN_IF_ERROR(cluster->StartAll());
  return cluster;
}

absl::Status LocalCluster::StartAll() {
  // A file of an earlier cluster would name processes that are gone.
  std::filesystem::remove(std::filesystem::path(options_.directory) / "cluster.json");
  PENSTOCK_RETURN_IF_ERROR(StartCoordinator(members_.front()));
  for (Member& member : members_) {
    if (member.role != Member::Role::kCoordinator) PENSTOCK_RETURN_IF_ERROR(StartMember(member));
  }
  PENSTOCK_RETURN_IF_ERROR(WaitForMembers(/*starting=*/true));
  return WriteClusterFile();
}

absl::Status LocalCluster::StartCoordinator(Member& member) {
  const std::string ready_file = absl::StrCat(options_.directory, "/coordinator.ready.json");
  std::filesystem::remove(ready_file);
  // After the first start the port is kept: the others and the clients know it.
  const std::string listen =
      coordinator_address_.empty() ? absl::StrCat("127.0.0.1:", options_.port) : coordinator_address_;
  const std::string metrics = coordinator_metrics_.empty() ? "127.0.0.1:0" : coordinator_metrics_;
  ChildProcess::Options child;
  child.name = member.id;
  child.log_path = LogPath(member.id);
  child.arguments = {Binary("penstock-coordinator", "coordinator/penstock-coordinator"),
                     absl::StrCat("--listen=", listen),
                     absl::StrCat("--metrics_listen=", metrics),
                     absl::StrCat("--store=", options_.directory, "/coordinator.sqlite"),
                     absl::StrCat("--root=", options_.directory),
                     absl::StrCat("--lease=", absl::FormatDuration(options_.lease)),
                     absl::StrCat("--ready_file=", ready_file)};
  PENSTOCK_ASSIGN_OR_RETURN(member.process, ChildProcess::Start(std::move(child)));
  const absl::Time deadline = absl::Now() + options_.start_limit;
  while (!ReadReadyFile(ready_file, &coordinator_address_, &coordinator_metrics_)) {
    if (!member.process->Running()) return DeadMemberError(member);
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("the coordinator doesn't answer after ", absl::FormatDuration(options_.start_limit),
                       "; its log ", LogPath(member.id), " ends with:\n", member.process->LogTail(kLogTailLines)));
    }
    absl::SleepFor(kPollInterval);
  }
  if (channel_ == nullptr) channel_ = CreateChannel(coordinator_address_);
  return absl::OkStatus();
}

absl::Status LocalCluster::StartMember(Member& member) {
  const bool worker = member.role == Member::Role::kWorker;
  const int hardware = std::max(1u, std::thread::hardware_concurrency());
  const int threads = options_.threads > 0 ? options_.threads : std::max(1, hardware / options_.workers);
  ChildProcess::Options child;
  child.name = member.id;
  child.log_path = LogPath(member.id);
  child.arguments = {worker ? Binary("penstock-worker", "worker/penstock-worker")
                            : Binary("penstock-params", "services/parameter/penstock-params"),
                     absl::StrCat("--id=", member.id),
                     absl::StrCat("--coordinator=", coordinator_address_),
                     "--listen=127.0.0.1:0",
                     "--metrics_listen=127.0.0.1:0",
                     absl::StrCat("--threads=", worker ? threads : std::max(1, hardware / options_.params))};
  if (worker) {
    child.arguments.push_back(absl::StrCat("--device=", member.device));
    child.arguments.push_back(absl::StrCat("--device_links=", options_.device_links));
    if (options_.operation_times) child.arguments.push_back("--operation_times");
  }
  PENSTOCK_ASSIGN_OR_RETURN(member.process, ChildProcess::Start(std::move(child)));
  return absl::OkStatus();
}

absl::Status LocalCluster::WaitForMembers(bool starting) {
  auto stub = v1::Coordinator::NewStub(channel_);
  const absl::Time deadline = absl::Now() + options_.start_limit;
  while (true) {
    absl::flat_hash_map<std::string, v1::MemberInfo> registered;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(2)));
    context.set_wait_for_ready(true);
    v1::ListMembersResponse response;
    if (stub->ListMembers(&context, {}, &response).ok()) {
      for (const v1::MemberStatus& status : response.members()) registered[status.info().id()] = status.info();
    }
    std::vector<std::string> missing;
    for (Member& member : members_) {
      if (member.reported_dead) continue;
      if (!member.process->Running()) {
        // At the start a death is an error; later it is Supervise's business.
        if (starting) return DeadMemberError(member);
        continue;
      }
      if (member.role == Member::Role::kCoordinator) continue;
      auto it = registered.find(member.id);
      if (it == registered.end() || it->second.pid() != static_cast<uint32_t>(member.process->pid())) {
        missing.push_back(member.id);
      } else {
        addresses_[member.id] = {it->second.address(), it->second.metrics_address()};
      }
    }
    if (missing.empty()) return absl::OkStatus();
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("after ", absl::FormatDuration(options_.start_limit), " ",
                                                      absl::StrJoin(missing, ", "), " did not register; see ",
                                                      options_.directory, "/logs"));
    }
    absl::SleepFor(kPollInterval);
  }
}

absl::Status LocalCluster::WriteClusterFile() const {
  google::protobuf::Struct json;
  auto& fields = *json.mutable_fields();
  fields["coordinator"].set_string_value(coordinator_address_);
  auto* metrics = fields["metrics"].mutable_list_value();
  if (!coordinator_metrics_.empty()) metrics->add_values()->set_string_value(coordinator_metrics_);
  auto& pids = *fields["pids"].mutable_struct_value()->mutable_fields();
  pids["workers"].mutable_list_value();
  pids["params"].mutable_list_value();
  for (const Member& member : members_) {
    const double pid = member.process->pid();
    if (member.role == Member::Role::kCoordinator) {
      pids["coordinator"].set_number_value(pid);
      continue;
    }
    const char* key = member.role == Member::Role::kWorker ? "workers" : "params";
    pids[key].mutable_list_value()->add_values()->set_number_value(pid);
    auto it = addresses_.find(member.id);
    if (it != addresses_.end() && !it->second.metrics.empty())
      metrics->add_values()->set_string_value(it->second.metrics);
  }
  std::string text;
  google::protobuf::util::JsonPrintOptions print;
  print.add_whitespace = true;
  if (!google::protobuf::util::MessageToJsonString(json, &text, print).ok()) {
    return absl::InternalError("cluster.json can't be printed");
  }
  return WriteFileAtomically(absl::StrCat(options_.directory, "/cluster.json"), text);
}

absl::Status LocalCluster::Supervise() {
  for (Member& member : members_) {
    if (member.process->Running() || member.reported_dead) continue;
    Say(absl::StrCat(member.id, " (pid ", member.process->pid(), ") ended: ", member.process->EndReason()));
    if (!ShouldRestart(member)) {
      member.reported_dead = true;
      continue;
    }
    PENSTOCK_RETURN_IF_ERROR(Restart(member));
    PENSTOCK_RETURN_IF_ERROR(WriteClusterFile());
    Say(absl::StrCat(member.id, " started again as pid ", member.process->pid()));
  }
  return absl::OkStatus();
}

absl::Status LocalCluster::Restart(Member& member) {
  const absl::Time now = absl::Now();
  auto& times = member.restarts;
  times.erase(std::remove_if(times.begin(), times.end(), [&](absl::Time t) { return now - t > absl::Minutes(1); }),
              times.end());
  if (static_cast<int>(times.size()) >= kRestartsPerMinuteMax) return DeadMemberError(member);
  times.push_back(now);
  PENSTOCK_RETURN_IF_ERROR(member.role == Member::Role::kCoordinator ? StartCoordinator(member) : StartMember(member));
  return WaitForMembers(/*starting=*/false);
}

bool LocalCluster::ShouldRestart(const Member& member) const {
  switch (member.role) {
    case Member::Role::kCoordinator:
      return options_.restart_coordinator;
    case Member::Role::kParams:
      return options_.restart_params;
    case Member::Role::kWorker:
      return options_.restart_workers ||
             (options_.restart_after_lost_device && member.process->ExitCode() == kExitForAnother);
  }
  return false;
}

void LocalCluster::Stop() {
  using Role = Member::Role;
  for (Role role : {Role::kWorker, Role::kParams, Role::kCoordinator}) {
    for (Member& member : members_) {
      if (member.role == role && member.process != nullptr) member.process->Signal(SIGTERM);
    }
    const absl::Time deadline = absl::Now() + kStopLimit;
    for (Member& member : members_) {
      if (member.role != role || member.process == nullptr) continue;
      if (!member.process->WaitForEnd(std::max(absl::ZeroDuration(), deadline - absl::Now()))) {
        Say(absl::StrCat(member.id, " didn't end within ", absl::FormatDuration(kStopLimit), " and is killed"));
        member.process->Signal(SIGKILL);
        member.process->WaitForEnd(absl::Seconds(5));
      }
    }
  }
  // Without processes the file would mislead.
  std::error_code ignored;
  std::filesystem::remove(std::filesystem::path(options_.directory) / "cluster.json", ignored);
}

absl::Status LocalCluster::DeadMemberError(const Member& member) const {
  return absl::AbortedError(absl::StrCat(member.id, " ended: ", member.process->EndReason(), "; its log ",
                                         LogPath(member.id), " ends with:\n", member.process->LogTail(kLogTailLines)));
}

std::string LocalCluster::Binary(const std::string& bundle_name, const std::string& tree_path) const {
  const std::string bundled = absl::StrCat(options_.binary_folder, "/", bundle_name);
  return std::filesystem::exists(bundled) ? bundled : absl::StrCat(options_.binary_folder, "/", tree_path);
}

std::string LocalCluster::LogPath(const std::string& id) const {
  return absl::StrCat(options_.directory, "/logs/", id, ".log");
}

void LocalCluster::Say(const std::string& line) const {
  if (options_.say) options_.say(line);
}

}  // namespace penstock
