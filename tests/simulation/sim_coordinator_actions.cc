// What the machines ask for, done over the simulated network and in the simulated store.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_worker.h"

namespace penstock::simulation {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(3);
constexpr absl::Duration kRetryDelay = absl::Milliseconds(200);
constexpr int kAttempts = 5;
constexpr size_t kCheckpointsKept = 2;

}  // namespace

// A write to the store that finds a newer epoch there.
bool SimCoordinator::Refused() {
  if (world_.store().job.epoch <= machine_->epoch()) return false;
  Apply(machine_->OnEpochPersisted(machine_->epoch(), absl::FailedPreconditionError("a newer epoch is stored"),
                                   world_.now()));
  return true;
}

void SimCoordinator::Apply(JobActions actions) {
  for (const JobAction& action : actions) {
    if (!Execute(action)) return;
  }
}

// False when the rest of the event's actions is to be dropped.
bool SimCoordinator::Execute(const JobAction& action) {
  if (const auto* persist = std::get_if<job_action::PersistJob>(&action)) {
    if (Refused()) return false;
    PENSTOCK_CHECK(world_.store().job.epoch == persist->job.epoch || world_.options().mutation != Mutation::kNone);
    world_.store().job = persist->job;
    world_.Trace(node_.name,
                 absl::StrCat("job is ", v1::JobState_Name(persist->job.state), " in epoch ", persist->job.epoch));
    return true;
  }
  if (const auto* persist = std::get_if<job_action::PersistEpoch>(&action)) Do(*persist);
  if (const auto* open = std::get_if<job_action::OpenShards>(&action)) Do(*open);
  if (const auto* change = std::get_if<job_action::StartEpochChange>(&action)) Do(*change);
  if (const auto* fetch = std::get_if<job_action::FetchSteps>(&action)) Do(*fetch);
  if (const auto* assign = std::get_if<job_action::AssignRanks>(&action)) Do(*assign);
  if (const auto* write = std::get_if<job_action::WriteCheckpoint>(&action)) Do(*write);
  if (const auto* close = std::get_if<job_action::CloseShards>(&action)) Do(*close);
  if (const auto* cut = std::get_if<job_action::CutHistory>(&action); cut != nullptr) {
    if (Refused()) return false;
    auto& history = world_.store().history;
    history.erase(history.upper_bound(cut->step), history.end());
  }
  if (const auto* stop = std::get_if<job_action::StopRanks>(&action)) {
    for (const WorkerRef& worker : stop->workers) {
      Command(worker, [this, epoch = stop->epoch](int index) { world_.workers()[index]->OnStop(epoch); });
    }
  }
  if (const auto* evict = std::get_if<job_action::EvictWorker>(&action)) {
    world_.Saw("an evicted worker");
    Command(evict->worker, [this](int index) { world_.workers()[index]->OnEvict(); });
    if (Member* member = Find(evict->worker); member != nullptr) member->alive = false;
  }
  if (const auto* digest = std::get_if<job_action::TakeDigest>(&action)) {
    world_.network().After(node_, absl::Milliseconds(5), [this, step = digest->step] {
      Apply(machine_->OnDigestDone(step, absl::OkStatus(), world_.now()));
    });
  }
  if (const auto* note = std::get_if<job_action::Note>(&action)) world_.Trace(node_.name, note->message);
  if (const auto* down = std::get_if<job_action::StepDown>(&action)) {
    world_.Trace(node_.name, absl::StrCat("steps down: ", down->reason));
    world_.Saw("a coordinator that steps down");
    change_.reset();
    // Whoever has the address reads the store again, as a process that its supervisor restarts. An old one stays down.
    world_.network().After(node_, kRetryDelay, [this] {
      if (&world_.coordinator() != this) return;
      world_.network().Crash(node_);
      world_.StartCoordinator();
    });
  }
  return true;
}

// The write and the answer to it are two events: a crash may come between them.
void SimCoordinator::Do(const job_action::PersistEpoch& action) {
  const auto delay = [this] { return world_.random().Between(absl::Microseconds(500), absl::Milliseconds(10)); };
  world_.network().After(node_, delay(), [this, job = action.job, delay] {
    SimStore& store = world_.store();
    absl::Status status;
    world_.AtPoint();
    const bool live = store.job.state != v1::JOB_STATE_SUCCEEDED && store.job.state != v1::JOB_STATE_FAILED &&
                      store.job.state != v1::JOB_STATE_CANCELLED;
    if ((store.job.epoch + 1 == job.epoch && live) || world_.Mutated(Mutation::kCoordinatorTrustsItself)) {
      store.job = job;
    } else {
      status = absl::FailedPreconditionError(absl::StrCat("the store has epoch ", store.job.epoch));
    }
    world_.network().After(node_, delay(), [this, epoch = job.epoch, status] {
      if (status.ok()) world_.Trace(node_.name, absl::StrCat("epoch ", epoch, " is persisted"));
      Apply(machine_->OnEpochPersisted(epoch, status, world_.now()));
    });
  });
}

// --- Opening and closing. ---

void SimCoordinator::Do(const job_action::OpenShards& action) {
  world_.fence_checker().OnEpochUsed(index_, action.epoch);
  change_.reset();
  // One source for one epoch, however often it is asked for: the shards must not start from different checkpoints.
  if (opening_epoch_ != action.epoch) {
    opening_epoch_ = action.epoch;
    opening_step_ = 0;
    for (const auto& [step, state] : world_.store().checkpoints) {
      if (step <= action.step_max) opening_step_ = step;
    }
    opening_state_ = opening_step_ == 0 ? InitialState({0, kElements}) : world_.store().checkpoints[opening_step_];
  }
  opened_.clear();
  for (int shard = 0; shard < shard_count(); ++shard) {
    const ElementRange range = ShardRange(shard, shard_count());
    OpenOne(shard, action.epoch, opening_step_, opening_state_.Part(range.begin, range.end));
  }
}

void SimCoordinator::OpenOne(int shard, uint64_t epoch, uint64_t step, const State& state) {
  SimShard& to = *world_.shards()[shard];
  world_.network().Call<uint64_t>(
      node_, to.node(), kCallTimeout, [&to, epoch, step, state](auto answer) { to.Open(epoch, step, state, answer); },
      [this, shard, epoch, step, state](absl::StatusOr<uint64_t> answer) {
        if (machine_->epoch() != epoch || machine_->done()) return;
        if (answer.ok()) {
          opened_[shard] = *answer;
          if (static_cast<int>(opened_.size()) < shard_count()) return;
          Apply(machine_->OnShardsOpened(epoch, step, world_.now()));
        } else if (IsTransient(answer.status())) {
          world_.network().After(node_, kRetryDelay, [this, shard, epoch, step, state] {
            if (machine_->epoch() == epoch) OpenOne(shard, epoch, step, state);
          });
        } else {
          Apply(machine_->OnShardsOpened(epoch, answer.status(), world_.now()));
        }
      });
}

void SimCoordinator::Do(const job_action::CloseShards& action) {
  world_.AtPoint();
  closing_epoch_ = action.epoch;
  closed_ = 0;
  change_.reset();
  for (int shard = 0; shard < shard_count(); ++shard) CloseOne(shard, action.epoch, kAttempts);
}

void SimCoordinator::CloseOne(int shard, uint64_t epoch, int attempts_left) {
  SimShard& to = *world_.shards()[shard];
  world_.network().Call<SimShard::Empty>(
      node_, to.node(), kCallTimeout, [&to, epoch](auto answer) { to.Close(epoch, answer); },
      [this, shard, epoch, attempts_left](absl::StatusOr<SimShard::Empty> answer) {
        if (!answer.ok() && IsTransient(answer.status()) && attempts_left > 1) {
          CloseOne(shard, epoch, attempts_left - 1);
        } else if (++closed_ == shard_count()) {
          Apply(machine_->OnShardsClosed(epoch, world_.now()));
        }
      });
}

// --- The change of an epoch. ---

void SimCoordinator::Do(const job_action::StartEpochChange& action) {
  world_.fence_checker().OnEpochUsed(index_, action.epoch);
  EpochChange::Options options;
  options.epoch = action.epoch;
  options.open_epoch = action.open_epoch;
  for (const auto& shard : world_.shards()) options.shards.push_back(shard->name());
  options.optimizer = world_.spec().optimizer();
  options.total_steps = world_.steps();
  change_ = std::make_unique<EpochChange>(options);
  Run(change_->Start(world_.now()));
}

void SimCoordinator::Run(const EpochChange::Actions& actions) {
  const uint64_t epoch = change_->epoch();
  for (const EpochChange::Action& action : actions) {
    if (const auto* seal = std::get_if<EpochChange::SendSeal>(&action)) SendSeal(seal->shard);
    if (const auto* decide = std::get_if<EpochChange::SendDecide>(&action)) SendDecide(*decide);
    if (const auto* ready = std::get_if<EpochChange::Ready>(&action)) {
      if (ready->completed.has_value()) world_.Saw("a step completed by recovery");
      Apply(machine_->OnEpochReady(epoch, *ready, world_.now()));
    }
    if (const auto* restore = std::get_if<EpochChange::RestoreNeeded>(&action)) {
      world_.Saw("a restore");
      Apply(machine_->OnRestoreNeeded(epoch, restore->reason, world_.now()));
    }
    if (const auto* failed = std::get_if<EpochChange::ChangeFailed>(&action)) {
      Apply(machine_->OnEpochChangeFailed(epoch, failed->status, world_.now()));
    }
  }
}

void SimCoordinator::SendSeal(int shard) {
  SimShard& to = *world_.shards()[shard];
  world_.network().Call<v1::SealResponse>(
      node_, to.node(), kCallTimeout, [&to, epoch = change_->epoch()](auto answer) { to.Seal(epoch, answer); },
      [this, shard, epoch = change_->epoch()](absl::StatusOr<v1::SealResponse> answer) {
        if (change_ == nullptr || change_->epoch() != epoch) return;
        if (!answer.ok() && IsTransient(answer.status()) && world_.Mutated(Mutation::kCoordinatorSkipsASeal)) {
          v1::SealResponse made_up;
          made_up.set_committed_step(machine_->committed_step());
          made_up.set_open_epoch(machine_->persisted().open_epoch);
          answer = made_up;
        }
        Run(change_->OnSealReply(shard, answer, world_.now()));
      });
}

void SimCoordinator::SendDecide(const EpochChange::SendDecide& decide) {
  SimShard& to = *world_.shards()[decide.shard];
  auto decision = decide.decision;
  if (!decision.has_value()) world_.Saw("a prepared step discarded by recovery");
  if (world_.Mutated(Mutation::kCoordinatorAlwaysDiscards)) decision.reset();
  world_.network().Call<v1::DecideResponse>(
      node_, to.node(), kCallTimeout,
      [&to, epoch = change_->epoch(), step = decide.step, decision](auto answer) {
        to.Decide(epoch, step, decision, answer);
      },
      [this, shard = decide.shard, epoch = change_->epoch()](absl::StatusOr<v1::DecideResponse> answer) {
        if (change_ != nullptr && change_->epoch() == epoch) Run(change_->OnDecideReply(shard, answer, world_.now()));
      });
}

// --- Ranks, history, checkpoints. ---

void SimCoordinator::Do(const job_action::AssignRanks& action) {
  world_.fence_checker().OnEpochUsed(index_, action.epoch);
  SimAssignment assignment;
  assignment.epoch = action.epoch;
  assignment.start_step = action.start_step;
  for (const WorkerRef& worker : action.workers) assignment.peers.push_back(IndexOf(worker));
  for (const WorkerRef& worker : action.workers) {
    Command(worker, [this, assignment](int index) { world_.workers()[index]->OnAssign(assignment); });
    ++assignment.rank;
  }
}

void SimCoordinator::Do(const job_action::FetchSteps& action) {
  SimShard& from = *world_.shards()[world_.random().Below(shard_count())];
  world_.network().Call<v1::GetStepsResponse>(
      node_, from.node(), kCallTimeout,
      [&from, from_step = action.from_step](auto answer) { from.GetSteps(from_step, answer); },
      [this, epoch = action.epoch](absl::StatusOr<v1::GetStepsResponse> answer) {
        if (machine_->epoch() != epoch || Refused()) return;
        if (!answer.ok()) {
          Apply(machine_->OnStepsFetched(epoch, answer.status(), world_.now()));
          return;
        }
        for (const v1::StepRecord& record : answer->records()) world_.store().history[record.step()] = record;
        Apply(machine_->OnStepsFetched(epoch, answer->committed_step(), world_.now()));
      });
}

void SimCoordinator::Do(const job_action::WriteCheckpoint& action) {
  if (world_.store().checkpoints.contains(action.step)) {
    world_.network().After(node_, absl::Milliseconds(1), [this, step = action.step] {
      Apply(machine_->OnCheckpointDone(step, absl::OkStatus(), world_.now()));
    });
    return;
  }
  snapshot_step_ = action.step;
  snapshot_.clear();
  for (int shard = 0; shard < shard_count(); ++shard) SnapshotOne(shard, action.step, kAttempts);
}

void SimCoordinator::SnapshotOne(int shard, uint64_t step, int attempts_left) {
  SimShard& from = *world_.shards()[shard];
  world_.network().Call<State>(
      node_, from.node(), kCallTimeout, [&from, step](auto answer) { from.WriteCheckpoint(step, answer); },
      [this, shard, step, attempts_left](absl::StatusOr<State> answer) {
        if (snapshot_step_ != step) return;
        if (answer.ok()) {
          snapshot_[shard] = *answer;
          if (static_cast<int>(snapshot_.size()) == shard_count()) SnapshotsDone(step, absl::OkStatus());
        } else if (IsTransient(answer.status()) && attempts_left > 1) {
          SnapshotOne(shard, step, attempts_left - 1);
        } else {
          SnapshotsDone(step, answer.status());
        }
      });
}

void SimCoordinator::SnapshotsDone(uint64_t step, const absl::Status& status) {
  world_.AtPoint();
  snapshot_step_.reset();
  if (status.ok()) {
    State whole;
    for (const auto& [shard, part] : snapshot_) {
      for (int kind = 1; kind <= ShardStep::kStateKinds; ++kind) {
        const std::vector<double>& numbers = part.of_kind(kind);
        whole.of_kind(kind).insert(whole.of_kind(kind).end(), numbers.begin(), numbers.end());
      }
    }
    world_.version_checker().OnState("the checkpoint", step, {0, kElements}, whole);
    auto& checkpoints = world_.store().checkpoints;
    checkpoints[step] = whole;
    while (checkpoints.size() > kCheckpointsKept) checkpoints.erase(checkpoints.begin());
  }
  Apply(machine_->OnCheckpointDone(step, status, world_.now()));
}

}  // namespace penstock::simulation
