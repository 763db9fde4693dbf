#include "coordinator/server/coordinator.h"

#include <filesystem>
#include <future>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/event_loop.h"
#include "coordinator/jobs/scheduler.h"
#include "coordinator/jobs/store_writer.h"
#include "coordinator/jobs/work_pool.h"
#include "coordinator/membership/refused.h"
#include "coordinator/membership/service.h"
#include "coordinator/planning/planner.h"
#include "coordinator/server/coordinator_metrics.h"
#include "coordinator/server/coordinator_service.h"
#include "coordinator/server/job_intake.h"
#include "coordinator/server/rendezvous_service.h"
#include "coordinator/server/rendezvous_table.h"
#include "coordinator/server/status_board.h"
#include "coordinator/server/watch_stream.h"
#include "coordinator/store/sqlite_store.h"
#include "core/base/status_macros.h"
#include "services/rpc/server.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/metrics_server.h"

namespace penstock {
namespace {

constexpr absl::Duration kLeaseMin = absl::Milliseconds(100);

// Of this process, not of the machine: a coordinator that restarts is another one to the store.
std::string RandomCoordinatorId() {
  std::random_device device;
  return absl::StrCat(absl::Hex(device(), absl::kZeroPad8), absl::Hex(device(), absl::kZeroPad8));
}

// What the scheduler shows goes to whoever wants to see it.
class View final : public SchedulerView {
 public:
  View(StatusBoard* board, RendezvousTable* rendezvous, CoordinatorMetrics* metrics, const Clock* clock)
      : board_(board), rendezvous_(rendezvous), metrics_(metrics), clock_(clock) {}

  void ShowJob(const v1::JobStatus& status) override {
    board_->Show(status);
    metrics_->UpdateJob(status);
  }
  void ShowStep(const v1::JobStatus& status, const v1::StepRecord& record) override {
    metrics_->AddStep(status, record, clock_->Now());
  }
  void ForgetJob(const std::string& id) override {
    board_->Forget(id);
    metrics_->ForgetJob(id);
  }
  void ShowMembers(const std::vector<v1::MemberStatus>& members) override { metrics_->UpdateMembers(members); }
  void BeginEpoch(const std::string& job_id, uint64_t epoch) override { rendezvous_->Begin(job_id, epoch); }
  void EndEpochs(const std::string& job_id) override { rendezvous_->End(job_id); }

 private:
  StatusBoard* const board_;
  RendezvousTable* const rendezvous_;
  CoordinatorMetrics* const metrics_;
  const Clock* const clock_;
};

// The streams' listener is the scheduler, which needs the streams first.
class Relay final : public MembershipListener {
 public:
  void SetListener(MembershipListener* listener) { listener_ = listener; }
  void OnReport(uint64_t stream, v1::MemberReport report, absl::Time arrived) override {
    listener_->OnReport(stream, std::move(report), arrived);
  }
  void OnEnd(uint64_t stream, const std::string& reason) override { listener_->OnEnd(stream, reason); }

 private:
  // Set before the server starts.
  MembershipListener* listener_ = nullptr;
};

}  // namespace

// In the order in which they stand on each other; what comes later goes first.
struct Coordinator::Impl {
  explicit Impl(const Options& options)
      : clock(options.clock != nullptr ? options.clock : Clock::Real()),
        blobs(options.blobs != nullptr ? options.blobs : &LocalDisk()),
        shards(options.shards != nullptr ? options.shards : &shard_clients),
        metrics("coordinator"),
        coordinator_metrics(&metrics),
        view(&board, &rendezvous, &coordinator_metrics, clock),
        loop(clock),
        intake(options.root.empty() ? std::filesystem::current_path().string()
                                    : std::filesystem::absolute(options.root).string(),
               blobs),
        membership(&relay, clock),
        watches(&board, &loop, clock),
        rendezvous_service(&rendezvous) {}

  absl::Status Start(const Options& options);
  void Stop();

  const Clock* const clock;
  Blobs* const blobs;
  ShardClientCalls shard_clients;
  ShardCalls* const shards;

  Metrics metrics;
  CoordinatorMetrics coordinator_metrics;
  StatusBoard board;
  RendezvousTable rendezvous;
  View view;

  std::unique_ptr<SqliteStore> own_store;
  EventLoop loop;
  std::unique_ptr<StoreWriter> writer;
  std::unique_ptr<WorkPool> pool;
  JobIntake intake;
  Planner planner;
  Relay relay;
  MembershipService membership;
  std::unique_ptr<Scheduler> scheduler;
  WatchStreams watches;
  RendezvousService rendezvous_service;
  std::unique_ptr<CoordinatorService> service;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<MetricsServer> metrics_server;

  std::once_flag stopped;
};

// For a host's answer that nobody listens there. One that takes longer is as good as none.
constexpr absl::Duration kGoneAnswerTimeout = absl::Milliseconds(100);

absl::Status Coordinator::Impl::Start(const Options& options) {
  if (options.lease < kLeaseMin) {
    return absl::InvalidArgumentError(absl::StrCat("a lease of ", absl::FormatDuration(options.lease),
                                                   " is too short; at least ", absl::FormatDuration(kLeaseMin)));
  }
  Store* store = options.store;
  if (store == nullptr) {
    PENSTOCK_ASSIGN_OR_RETURN(own_store, SqliteStore::Open(options.store_path));
    store = own_store.get();
  }
  writer = std::make_unique<StoreWriter>(store, StoreWriter::Mode::kThread);
  pool = std::make_unique<WorkPool>();
  JobEnvironment environment;
  environment.coordinator_id = RandomCoordinatorId();
  environment.clock = clock;
  environment.loop = &loop;
  environment.pool = pool.get();
  environment.store = store;
  environment.writer = writer.get();
  environment.shards = shards;
  environment.blobs = blobs;
  environment.planner = &planner;
  Scheduler::Options scheduling;
  scheduling.lease = options.lease;
  scheduling.return_grace = options.return_grace;
  scheduling.machine = options.machine;
  scheduling.is_gone = [](const std::string& address) { return ConnectionRefused(address, kGoneAnswerTimeout); };
  scheduler = std::make_unique<Scheduler>(std::move(scheduling), std::move(environment), &membership, &view);
  relay.SetListener(scheduler.get());

  // In the loop, which answers of what it starts are posted to.
  std::promise<absl::Status> recovered;
  loop.Post([&] { recovered.set_value(scheduler->Recover()); });
  PENSTOCK_RETURN_IF_ERROR(recovered.get_future().get());

  service = std::make_unique<CoordinatorService>(
      CoordinatorService::Parts{scheduler.get(), &board, store, writer.get(), &intake, &watches, &planner, clock});
  RpcServer::Options serving;
  serving.address = options.address;
  serving.services = {service.get(), &membership, &rendezvous_service};
  serving.bind_timeout = options.bind_timeout;
  PENSTOCK_ASSIGN_OR_RETURN(server, RpcServer::Start(serving));
  if (!options.metrics_address.empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(metrics_server, MetricsServer::Start(options.metrics_address, metrics));
  }
  return absl::OkStatus();
}

void Coordinator::Impl::Stop() {
  std::call_once(stopped, [this] {
    if (server != nullptr) server->Drain();
    const absl::Status stopping = absl::UnavailableError("the coordinator is stopping");
    membership.EndAll(stopping);
    watches.EndAll(stopping);
    metrics_server.reset();
    if (server != nullptr) server->Stop();
    // From here on nobody calls in. The loop goes first, which uses all the others; what they still answer is dropped
    // there.
    loop.Stop();
    shard_clients.Stop();
    pool.reset();
    writer.reset();
  });
}

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Coordinator::~Coordinator() { Stop(); }

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(const Options& options) {
  auto impl = std::make_unique<Impl>(options);
  const absl::Status status = impl->Start(options);
  if (!status.ok()) {
    impl->Stop();
    return status;
  }
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

const std::string& Coordinator::address() const { return impl_->server->address(); }

std::string Coordinator::metrics_address() const {
  return impl_->metrics_server == nullptr ? "" : impl_->metrics_server->address();
}

void Coordinator::Stop() { impl_->Stop(); }

}  // namespace penstock
