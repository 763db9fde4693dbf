// penstock-worker: runs one pipeline stage of one data replica of a job at a time, from job to job.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "core/base/status_macros.h"
#include "services/base/flags.h"
#include "services/base/heap.h"
#include "services/base/log.h"
#include "services/base/shutdown.h"
#include "services/membership/device_info.h"
#include "services/membership/member.h"
#include "services/rpc/address.h"
#include "services/rpc/server.h"
#include "services/storage/blobs.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/metrics_server.h"
#include "services/telemetry/timeline.h"
#include "worker/comm/gloo/gloo_communicator.h"
#include "worker/comm/rendezvous_client.h"
#include "worker/device/compute_device.h"
#include "worker/device/cuda_support.h"
#include "worker/device/device_links.h"
#include "worker/device/network_interface.h"
#include "worker/device/preflight.h"
#include "worker/generate/service.h"
#include "worker/ops/cpu/passive_threads.h"
#include "worker/runtime/parameter_state_client.h"
#include "worker/runtime/rank_metrics.h"
#include "worker/runtime/rank_topology.h"
#include "worker/runtime/rate_probe.h"
#include "worker/runtime/worker_node.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:0", "host:port of health checks and reflection; port 0 takes any free one");
ABSL_FLAG(std::string, address, "",
          "name or address of this machine as other workers reach it; the host of --listen when empty");
ABSL_FLAG(std::string, coordinator, "", "host:port of the coordinator (needed)");
ABSL_FLAG(std::string, id, "", "stable name of this worker in the cluster, worker-0 say (needed)");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:0",
          "host:port of /metrics; port 0 takes any free one, empty has none");
ABSL_FLAG(std::string, device, "cpu", "what computes: cpu, or cuda:N, the machine's N-th GPU");
ABSL_FLAG(std::string, device_links, "auto",
          "how tensors get from GPU to GPU: nccl, host (through the hosts' memories), or auto: nccl where all ranks of "
          "a job have GPUs of their own and the same NCCL; the same for all workers");
ABSL_FLAG(bool, operation_times, false,
          "count what each operation takes, beside what it has to move and compute: where a step's time goes "
          "(penstock_worker_operation_seconds_total)");
ABSL_FLAG(bool, preflight, false, "print what the device is and how fast, and end");
ABSL_FLAG(std::string, o, "table", "of --preflight: table or json");
ABSL_FLAG(int, threads, 0, "threads that compute; 0 takes all of the machine");

namespace penstock {
namespace {

constexpr char kUsage[] =
    "penstock-worker: computes. It joins the coordinator, runs one rank of a job when it is told to,\n"
    "and goes on from job to job. It holds nothing that can't be computed again.\n"
    "\n"
    "  penstock-worker --id=worker-0 --coordinator=10.0.0.1:7000 --listen=10.0.0.3:0 --threads=8\n"
    "\n"
    "  penstock-worker --preflight --device=cuda:0 -o json\n"
    "\n"
    "  OMP_WAIT_POLICY   active keeps waiting threads spinning, for a worker that has its cores to itself (passive)\n";

// A last RankStopped has this long to get out.
constexpr absl::Duration kFlushTimeout = absl::Seconds(1);
// What a worker may take to end that has lost its device.
constexpr absl::Duration kLostExitTimeout = absl::Seconds(10);

int Threads() {
  const int asked = absl::GetFlag(FLAGS_threads);
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Where NCCL isn't told it takes the first interface that it finds; peers reach this worker by the one that has its
// address. Before other threads.
void UseInterfaceOf(const std::string& host) {
  const std::string name = NetworkInterfaceOf(host);
  if (!name.empty()) setenv("NCCL_SOCKET_IFNAME", absl::StrCat("=", name).c_str(), /*overwrite=*/0);
}

absl::StatusOr<ComputeDevice> Device() { return ParseComputeDevice(absl::GetFlag(FLAGS_device), Threads()); }

absl::Status CheckDeviceFlags() {
  if (absl::GetFlag(FLAGS_threads) < 0) return absl::InvalidArgumentError("--threads can't be negative");
  const std::string links = absl::GetFlag(FLAGS_device_links);
  if (links != "auto" && links != "nccl" && links != "host") {
    return absl::InvalidArgumentError(absl::StrCat("--device_links=", links, ": expected auto, nccl or host"));
  }
  const std::string output = absl::GetFlag(FLAGS_o);
  if (output != "table" && output != "json") {
    return absl::InvalidArgumentError(absl::StrCat("-o ", output, ": expected table or json"));
  }
  return Device().status();
}

absl::Status CheckFlags() {
  if (absl::GetFlag(FLAGS_coordinator).empty()) {
    return absl::InvalidArgumentError("--coordinator is missing: the coordinator's host:port");
  }
  if (absl::GetFlag(FLAGS_id).empty()) return absl::InvalidArgumentError("--id is missing: worker-0, say");
  PENSTOCK_ASSIGN_OR_RETURN(const HostPort listen, ParseHostPort(absl::GetFlag(FLAGS_listen)));
  if (absl::GetFlag(FLAGS_address).empty() && (listen.host == "0.0.0.0" || listen.host == "::")) {
    return absl::InvalidArgumentError(absl::StrCat("--address is missing: with --listen=", absl::GetFlag(FLAGS_listen),
                                                   " other workers can't tell this machine's"));
  }
  return ParseHostPort(absl::GetFlag(FLAGS_coordinator)).status();
}

// A process whose device is lost reports what happened and ends, with kExitForAnother: nothing but a new process gets
// the device back.
class LostDevice {
 public:
  // What the worker does at its end asks the device, too; one that doesn't answer any more doesn't hold it up.
  void Set(const std::string& device, const absl::Status& why) {
    if (lost_.exchange(true)) return;
    LogWarning("{} is lost, and the worker ends: {}", device, why);
    std::thread([] {
      std::this_thread::sleep_for(absl::ToChronoMilliseconds(kLostExitTimeout));
      LogWarning("the lost device holds the worker up: it ends as it is");
      _exit(kExitForAnother);
    }).detach();
    ShutdownSignal::Request();
  }
  operator bool() const { return lost_; }

 private:
  std::atomic<bool> lost_ = false;
};
LostDevice& TheLostDevice() {
  static LostDevice* const lost = new LostDevice;
  return *lost;
}

// Hands reports to the Member, which is made after what reports.
class Reporter {
 public:
  void Set(Member* member) {
    member_ = member;
    ready_.Notify();
  }
  void Report(v1::MemberReport report) {
    ready_.WaitForNotification();
    if (absl::Status status = member_->Report(std::move(report)); !status.ok()) {
      LogWarning("a report was dropped: {}", status);
    }
  }

 private:
  absl::Notification ready_;
  Member* member_ = nullptr;
};

std::unique_ptr<Connector> Connect(const std::shared_ptr<GlooDevice>& device, const RankPlan& plan) {
  GlooConnectorOptions options;
  options.device = device;
  options.rendezvous = std::make_shared<RendezvousClient>(absl::GetFlag(FLAGS_coordinator), plan.assignment.job_id(),
                                                          plan.assignment.epoch());
  options.rank = plan.rank();
  options.size = plan.mesh.size();
  for (const v1::Peer& peer : plan.assignment.peers()) options.names.push_back(peer.worker_id());
  return MakeGlooConnector(std::move(options));
}

// Between the devices of a job's ranks; null where tensors go through the hosts' memories. Every rank comes to the same
// result, from what the coordinator has told all of them.
std::unique_ptr<Connector> ConnectGpus(const ComputeDevice& device, const RankPlan& plan) {
  const std::string links = absl::GetFlag(FLAGS_device_links);
  if (plan.mesh.size() == 1 || links == "host" || (links == "auto" && !LinkedByNccl(plan.assignment))) return nullptr;
  DeviceLinkOptions options;
  options.rendezvous = std::make_shared<RendezvousClient>(absl::GetFlag(FLAGS_coordinator), plan.assignment.job_id(),
                                                          plan.assignment.epoch());
  options.rank = plan.rank();
  options.size = plan.mesh.size();
  options.device = device.cuda;
  options.topology = TopologyOf(plan);
  options.fast_sums = plan.spec().training().determinism() == v1::TrainingSpec::DETERMINISM_FAST;
  for (const v1::Peer& peer : plan.assignment.peers()) options.names.push_back(peer.worker_id());
  return ConnectDevices(std::move(options));
}

absl::Status Preflight() {
  PENSTOCK_RETURN_IF_ERROR(CheckDeviceFlags());
  PreflightOptions options;
  PENSTOCK_ASSIGN_OR_RETURN(options.device, Device());
  PENSTOCK_ASSIGN_OR_RETURN(const HostPort listen, ParseHostPort(absl::GetFlag(FLAGS_listen)));
  options.host = absl::GetFlag(FLAGS_address).empty() ? listen.host : absl::GetFlag(FLAGS_address);
  PENSTOCK_ASSIGN_OR_RETURN(const v1::DeviceInfo info, RunPreflight(options));
  if (absl::GetFlag(FLAGS_o) == "json") {
    std::printf("%s\n", DeviceJson(info).dump(2).c_str());
    return absl::OkStatus();
  }
  for (const auto& [name, value] : DescribeDevice(info)) std::printf("%-18s%s\n", name.c_str(), value.c_str());
  return absl::OkStatus();
}

absl::StatusOr<Member::Options> MemberOptions(const RpcServer& server, const MetricsServer* metrics, WorkerNode& node,
                                              const ComputeDevice& device, std::atomic<bool>& refused) {
  Member::Options member;
  member.coordinator_address = absl::GetFlag(FLAGS_coordinator);
  member.info.set_role(v1::MEMBER_ROLE_WORKER);
  member.info.set_id(absl::GetFlag(FLAGS_id));
  PENSTOCK_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(server.address()));
  if (!absl::GetFlag(FLAGS_address).empty()) address.host = absl::GetFlag(FLAGS_address);
  member.info.set_address(address.ToString());
  if (metrics != nullptr) member.info.set_metrics_address(metrics->address());
  member.info.set_device(device.name());
  member.info.set_threads(Threads());
  // Once in a process's life; every Hello carries it.
  PENSTOCK_ASSIGN_OR_RETURN(*member.info.mutable_rates(), MeasureRates(device.is_cuda() ? 0 : device.threads,
                                                                       [device] { return CreateBackend(device); }));
  // The CPU's rates are above, measured with the model's own code.
  PENSTOCK_ASSIGN_OR_RETURN(
      *member.info.mutable_device_info(),
      RunPreflight({.device = device,
                    .host = address.host,
                    .budget = device.is_cuda() ? absl::Milliseconds(1500) : absl::ZeroDuration()}));
  member.on_command = [&node](const v1::MemberCommand& command) { node.OnCommand(command); };
  member.running = [&node] { return node.running(); };
  member.cursor = [&node] { return node.cursor(); };
  member.on_refused = [&refused](const absl::Status&) {
    refused = true;
    ShutdownSignal::Request();
  };
  return member;
}

absl::Status Run() {
  PENSTOCK_RETURN_IF_ERROR(CheckDeviceFlags());
  PENSTOCK_RETURN_IF_ERROR(CheckFlags());
  PENSTOCK_ASSIGN_OR_RETURN(const ComputeDevice compute, Device());
  if (compute.is_cuda()) {
    PENSTOCK_ASSIGN_OR_RETURN(const HostPort listen, ParseHostPort(absl::GetFlag(FLAGS_listen)));
    UseInterfaceOf(absl::GetFlag(FLAGS_address).empty() ? listen.host : absl::GetFlag(FLAGS_address));
  }
  Metrics metrics("worker");
  WorkerMetrics worker_metrics(metrics);
  Timeline timeline;
  std::unique_ptr<MetricsServer> metrics_server;
  if (!absl::GetFlag(FLAGS_metrics_listen).empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(metrics_server, MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen), metrics));
  }
  // The node, which says whether there is a job, is made later and gone earlier.
  std::atomic<WorkerNode*> busy_node = nullptr;
  GeneratorService generator(
      {.worker_id = absl::GetFlag(FLAGS_id), .threads = Threads(), .blobs = &LocalDisk(), .busy = [&busy_node] {
         const WorkerNode* node = busy_node;
         return node == nullptr || node->running().has_value();
       }});
  RpcServer::Options server_options;
  server_options.address = absl::GetFlag(FLAGS_listen);
  server_options.services = {&generator};
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<RpcServer> server, RpcServer::Start(server_options));
  PENSTOCK_ASSIGN_OR_RETURN(const HostPort listening, ParseHostPort(server->address()));
  const std::string host = absl::GetFlag(FLAGS_address).empty() ? listening.host : absl::GetFlag(FLAGS_address);
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<GlooDevice> device, GlooDevice::Create(host));

  Reporter reporter;
  WorkerNode::Options options;
  options.threads = Threads();
  options.connect = [device](const RankPlan& plan) { return Connect(device, plan); };
  const bool measures = absl::GetFlag(FLAGS_operation_times);
  const OperationMeters meters = measures ? CountOperations(metrics) : nullptr;
  if (compute.is_cuda() || measures) {
    options.backend = [compute, meters]() -> absl::StatusOr<std::unique_ptr<Backend>> {
      absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend(compute);
      if (backend.ok()) return meters ? MeasureOperations(*std::move(backend), meters) : *std::move(backend);
      // There was one when the process started. (What of its memory others have may come back.)
      if (compute.is_cuda() && !absl::IsResourceExhausted(backend.status())) {
        TheLostDevice().Set(compute.name(), backend.status());
      }
      return backend;
    };
  }
  if (compute.is_cuda()) {
    options.device_lost = [compute](const absl::Status& why) { TheLostDevice().Set(compute.name(), why); };
    options.connect_devices = [compute](const RankPlan& plan) { return ConnectGpus(compute, plan); };
  }
  options.state = CreateParameterStateClient;
  options.report = [&reporter](v1::MemberReport report) { reporter.Report(std::move(report)); };
  options.metrics = &worker_metrics;
  options.timeline = &timeline;
  WorkerNode node(std::move(options));
  // Its handlers ask the node.
  const absl::Cleanup stop_server = [&server] { server->Stop(); };

  std::atomic<bool> refused = false;
  PENSTOCK_ASSIGN_OR_RETURN(Member::Options member_options,
                            MemberOptions(*server, metrics_server.get(), node, compute, refused));
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<Member> member, Member::Start(std::move(member_options)));
  reporter.Set(member.get());
  busy_node = &node;
  LogInfo("serving at {}, metrics at {}, coordinator {}, {} threads", server->address(),
          metrics_server == nullptr ? "none" : metrics_server->address(), absl::GetFlag(FLAGS_coordinator), Threads());

  ShutdownSignal::Wait();
  LogInfo("stopping");
  server->Drain();
  node.Stop("the worker process was asked to end");
  member->Flush(kFlushTimeout);
  member->Stop();
  server->Stop();
  if (TheLostDevice()) return absl::UnavailableError(absl::StrCat(compute.name(), " is lost to this process"));
  if (refused) return absl::AbortedError(absl::StrCat("another process has taken the id ", absl::GetFlag(FLAGS_id)));
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  penstock::MakeWaitingThreadsSleep(argv);
  penstock::KeepFreedBlocks();
  penstock::ShutdownSignal::Install();
  penstock::ParseFlags(argc, argv, penstock::kUsage);
  penstock::InitLog(absl::GetFlag(FLAGS_id).empty() ? "worker" : absl::GetFlag(FLAGS_id));
  penstock::PrepareCudaEnvironment();
  const absl::Status status = absl::GetFlag(FLAGS_preflight) ? penstock::Preflight() : penstock::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "penstock-worker: %s\n", std::string(status.message()).c_str());
  return penstock::TheLostDevice() ? penstock::kExitForAnother : 1;
}
