// Membership and scheduling.
#include "tests/simulation/sim_coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/sim_worker.h"

namespace penstock::simulation {
namespace {

constexpr absl::Duration kLease = absl::Seconds(2);
constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kPingInterval = absl::Milliseconds(500);

}  // namespace

SimCoordinator::SimCoordinator(World& world, int index) : world_(world), index_(index) {
  node_.name = absl::StrCat("coordinator-", index);
  members_.resize(world_.workers().size());
  shard_health_.resize(world_.shards().size());
  JobMachine::Options options;
  options.spec = world_.spec();
  // Faults come as they come; a job that fails for good is another matter's test.
  options.recoveries_without_progress_max = 10000;
  options.ready_timeout = absl::Seconds(10);
  options.stop_timeout = absl::Seconds(8);
  options.adopt_timeout = absl::Seconds(4);
  options.finish_report_timeout = absl::Seconds(6);
  machine_ = std::make_unique<JobMachine>(options);
}

void SimCoordinator::Start() {
  const SimStore& store = world_.store();
  for (ShardHealth& health : shard_health_) health.last_seen = world_.now();
  // Up to where the history is whole.
  uint64_t history_step = 0;
  while (store.history.contains(history_step + 1)) ++history_step;
  Apply(machine_->Restore(store.job, history_step, world_.now()));
  Tick();
  PingShards();
}

// --- Members. ---

SimCoordinator::Member* SimCoordinator::Find(const WorkerRef& ref) {
  for (Member& member : members_) {
    if (member.alive && member.ref == ref) return &member;
  }
  return nullptr;
}

int SimCoordinator::IndexOf(const WorkerRef& ref) const {
  for (size_t i = 0; i < world_.workers().size(); ++i) {
    if (world_.workers()[i]->name() == ref.id) return static_cast<int>(i);
  }
  return -1;
}

void SimCoordinator::Command(const WorkerRef& ref, std::function<void(int)> command) {
  const int index = IndexOf(ref);
  if (index < 0 || !(members_[index].ref == ref) || members_[index].link == nullptr) return;
  members_[index].link->Down([index, command = std::move(command)] { command(index); });
}

void SimCoordinator::OnHello(int worker, const WorkerRef& ref, const std::optional<v1::RunningRank>& running,
                             std::shared_ptr<Link> link) {
  Member& member = members_[worker];
  if (member.alive && !(member.ref == ref)) {
    Apply(machine_->OnWorkerLost(member.ref, absl::StrCat(ref.id, " was lost: it started anew"), world_.now()));
  }
  member.ref = ref;
  member.alive = true;
  member.last_seen = world_.now();
  member.link = std::move(link);
  member.runs_epoch = running.has_value() ? running->epoch() : 0;
  const bool adopting = machine_->state() != v1::JOB_STATE_RUNNING || machine_->gang().missing() > 0;
  const uint64_t epoch = machine_->epoch();
  Apply(machine_->OnWorkerJoined(ref, running, world_.now()));
  if (adopting && running.has_value() && machine_->epoch() == epoch && machine_->gang().AllAre(Gang::Member::kReady)) {
    world_.Saw("a job adopted after a restart");
  }
}

void SimCoordinator::OnHeartbeat(int worker, const WorkerRef& ref) {
  Member& member = members_[worker];
  if (member.alive && member.ref == ref) {
    member.last_seen = world_.now();
  } else if (member.ref == ref && member.link != nullptr) {
    // Its lease had ended: it has to join again.
    member.link->Break();
  }
}

void SimCoordinator::OnReport(const WorkerRef& ref, const v1::MemberReport& report) {
  Member* member = Find(ref);
  if (member == nullptr) return;
  member->last_seen = world_.now();
  const absl::Time now = world_.now();
  if (report.has_ready()) Apply(machine_->OnRankReady(report.epoch(), ref, now));
  if (report.has_failed()) {
    Apply(machine_->OnRankFailed(report.epoch(), ref, absl::StrCat(ref.id, ": ", report.failed().message()),
                                 report.failed().permanent(), now));
  }
  if (report.has_stopped()) {
    if (report.epoch() >= member->runs_epoch) member->runs_epoch = 0;
    Apply(machine_->OnRankStopped(report.epoch(), ref, now));
  }
  if (report.has_step()) {
    if (report.epoch() == machine_->epoch() && !machine_->done()) {
      if (Refused()) return;
      world_.store().history[report.step().step()] = report.step();
    }
    Apply(machine_->OnStepRecord(report.epoch(), report.step(), now));
  }
  if (report.has_finished()) Apply(machine_->OnJobFinished(report.epoch(), now));
}

// --- Time. ---

void SimCoordinator::Tick() {
  const absl::Time now = world_.now();
  for (Member& member : members_) {
    if (!member.alive || now - member.last_seen <= kLease) continue;
    member.alive = false;
    Apply(machine_->OnWorkerLost(member.ref, absl::StrCat(member.ref.id, " was lost: its lease expired"), now));
  }
  if (now >= machine_->NextTick()) Apply(machine_->OnTick(now));
  if (change_ != nullptr && now >= change_->NextTick()) Run(change_->OnTick(now));
  StopStrays();
  Schedule();
  world_.network().After(node_, kTick, [this] { Tick(); });
}

// A worker that runs a rank which nobody holds it for: the machine said stop once, when it joined. It is said again
// until the worker has stopped; before that it is of no use to any job.
void SimCoordinator::StopStrays() {
  for (const Member& member : members_) {
    if (!member.alive || member.runs_epoch == 0 || machine_->gang().RankOf(member.ref).has_value()) continue;
    Command(member.ref, [this, epoch = member.runs_epoch](int index) { world_.workers()[index]->OnStop(epoch); });
  }
}

void SimCoordinator::Schedule() {
  const int wanted = machine_->WorkersWanted();
  if (wanted == 0) return;
  std::vector<WorkerRef> idle;
  int registered = 0;
  for (const Member& member : members_) {
    if (!member.alive) continue;
    ++registered;
    if (member.runs_epoch == 0 && !machine_->gang().RankOf(member.ref).has_value()) idle.push_back(member.ref);
  }
  if (static_cast<int>(idle.size()) < wanted) {
    Apply(machine_->OnWorkersShort(registered, static_cast<int>(idle.size()), "", world_.now()));
    return;
  }
  idle.resize(static_cast<size_t>(wanted));
  Apply(machine_->OnWorkersOffered(idle, world_.now()));
}

void SimCoordinator::PingShards() {
  for (int shard = 0; shard < shard_count(); ++shard) {
    SimShard& to = *world_.shards()[shard];
    world_.network().Call<uint64_t>(
        node_, to.node(), kLease, [&to](auto answer) { to.Ping(answer); },
        [this, shard, &to](absl::StatusOr<uint64_t> incarnation) {
          ShardHealth& health = shard_health_[shard];
          bool lost = false;
          if (incarnation.ok()) {
            lost = health.incarnation.has_value() && *health.incarnation != *incarnation && !health.reported_lost;
            health.incarnation = *incarnation;
            health.last_seen = world_.now();
            health.reported_lost = false;
          } else if (world_.now() - health.last_seen > kLease && !health.reported_lost) {
            lost = health.reported_lost = true;
          }
          if (lost) Apply(machine_->OnShardLost(absl::StrCat(to.name(), " was lost"), world_.now()));
        });
  }
  world_.network().After(node_, kPingInterval, [this] { PingShards(); });
}

}  // namespace penstock::simulation
