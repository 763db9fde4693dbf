#include "tests/simulation/sim_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_rank.h"

namespace penstock::simulation {
namespace {

constexpr absl::Duration kHeartbeatInterval = absl::Milliseconds(250);
constexpr absl::Duration kReconnectDelay = absl::Milliseconds(100);
constexpr size_t kReportsMax = 256;

}  // namespace

SimWorker::SimWorker(World& world, int index) : world_(world), index_(index) {
  node_.name = absl::StrCat("worker-", index);
  incarnation_ = world_.NextIncarnation();
}

SimWorker::~SimWorker() = default;

void SimWorker::Start() {
  Connect();
  Heartbeat();
}

void SimWorker::Crash() {
  world_.network().Crash(node_);
  if (rank_ != nullptr) rank_->Abandon();
  rank_.reset();
  link_.reset();
  reports_.clear();
  newest_epoch_ = 0;
  steps_led = 0;
  hangs_until_ = absl::InfinitePast();
}

void SimWorker::Restart() {
  incarnation_ = world_.NextIncarnation();
  world_.network().Restart(node_);
  Start();
}

// --- Membership. ---

void SimWorker::Connect() {
  coordinator_ = &world_.coordinator();
  link_ = std::make_shared<Link>(world_.network(), node_, coordinator_->node(),
                                 [this] { world_.network().After(node_, kReconnectDelay, [this] { Connect(); }); });
  std::optional<v1::RunningRank> running;
  if (rank_ != nullptr) {
    running.emplace();
    running->set_epoch(rank_->epoch());
    running->set_rank(static_cast<uint32_t>(rank_->rank()));
  }
  link_->Up([coordinator = coordinator_, link = link_, index = index_, ref = ref(), running] {
    coordinator->OnHello(index, ref, running, link);
  });
  // What was reported on the old stream may have been lost with it: say again how the rank stands.
  if (rank_ != nullptr) rank_->RepeatReports();
  Flush();
}

void SimWorker::Heartbeat() {
  world_.network().After(node_, kHeartbeatInterval, [this] {
    // As keep-alive would find out: another coordinator has the address now.
    if (coordinator_ != &world_.coordinator()) link_->Break();
    link_->Up([coordinator = coordinator_, index = index_, ref = ref()] { coordinator->OnHeartbeat(index, ref); });
    Heartbeat();
  });
}

void SimWorker::Report(v1::MemberReport report) {
  reports_.push_back(std::move(report));
  if (reports_.size() > kReportsMax) reports_.pop_front();
  Flush();
}

void SimWorker::Flush() {
  while (!link_->broken() && !reports_.empty()) {
    link_->Up(
        [coordinator = coordinator_, ref = ref(), report = reports_.front()] { coordinator->OnReport(ref, report); });
    reports_.pop_front();
  }
}

// --- Commands. ---

void SimWorker::OnAssign(const SimAssignment& assignment) {
  if (hangs() || assignment.epoch <= newest_epoch_) return;
  newest_epoch_ = assignment.epoch;
  if (rank_ != nullptr) rank_->Abandon();
  rank_ = std::make_shared<SimRank>(world_, *this, assignment);
  rank_->Start();
}

void SimWorker::OnStop(uint64_t epoch) {
  if (hangs()) return;
  // An assignment of a stopped epoch that is still on its way must not begin.
  newest_epoch_ = std::max(newest_epoch_, epoch);
  if (rank_ != nullptr && rank_->epoch() <= epoch) {
    rank_->Abandon();
    rank_.reset();
  }
  if (rank_ != nullptr) return;
  v1::MemberReport report;
  report.set_epoch(epoch);
  report.mutable_stopped();
  Report(std::move(report));
}

void SimWorker::OnEvict() {
  Crash();
  world_.network().scheduler().After(absl::Milliseconds(500), [this] {
    if (!node_.alive) Restart();
  });
}

absl::Status SimWorker::OnPeer(uint64_t epoch, int from_rank, uint64_t exchange) {
  if (hangs()) return absl::UnavailableError("no answer");
  if (epoch < newest_epoch_) return absl::FailedPreconditionError("the epoch is over");
  if (rank_ == nullptr || rank_->epoch() != epoch) return absl::UnavailableError("not there yet");
  return rank_->OnPeer(from_rank, exchange);
}

}  // namespace penstock::simulation
