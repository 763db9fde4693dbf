// From a new epoch to sealed shards: opening the job on its shards, and the change of epoch.
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/job_runner.h"
#include "core/plan/job_facts.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.

// --- Opening. ---

absl::StatusOr<ShardAddress> JobRunner::AddressOf(size_t shard) const {
  const auto address = environment_->cluster->FindShard(job_.shards[shard]);
  if (address.has_value()) return *address;
  return absl::UnavailableError(absl::StrCat(job_.shards[shard], " isn't registered"));
}

// Fixed for the job's life: which part of the canonical space a shard holds follows from its place in the list.
absl::Status JobRunner::ChooseShards() {
  std::vector<std::string> living = environment_->cluster->LivingShards();
  const uint32_t wanted = job_.spec.parallel().shards();
  if (living.empty() || living.size() < wanted) {
    return absl::UnavailableError(absl::StrCat("parameter shards: the job wants ",
                                               wanted == 0 ? "at least one" : absl::StrCat(wanted), ", ", living.size(),
                                               living.size() == 1 ? " is" : " are", " registered"));
  }
  if (wanted != 0) living.resize(wanted);
  job_.shards = std::move(living);
  return absl::OkStatus();
}

void JobRunner::Execute(const OpenShards& action) {
  if (open_ != nullptr) open_->Cancel();
  change_.reset();
  incarnations_.clear();
  CutCheckpointUnderWay();
  if (!job_.shards.empty()) {
    OpenOnShards(action);
    return;
  }
  if (const absl::Status status = ChooseShards(); !status.ok()) {
    Posted([epoch = action.epoch](JobRunner& runner, const absl::Status& chosen) {
      runner.Handle(runner.machine_.OnShardsOpened(epoch, chosen, runner.Now()));
    })(status);
    return;
  }
  // In the store before any shard hears of the job.
  environment_->writer->Write(
      [id = job_.id, shards = job_.shards](Store& store) { return store.WriteShards(id, shards); },
      Posted([action](JobRunner& runner, const absl::Status&) { runner.OpenOnShards(action); }));
}

void JobRunner::OpenOnShards(const OpenShards& action) {
  const uint64_t epoch = action.epoch;
  if (epoch != machine_.epoch()) return;
  OpenTask::Options options;
  options.environment = environment_;
  options.job_id = job_.id;
  options.spec = job_.spec;
  options.epoch = epoch;
  options.restore = action.restore;
  options.step_max = action.step_max;
  options.shards = job_.shards;
  options.on_wait = [weak = weak_from_this(), epoch](const std::string& waiting_for) {
    const auto runner = weak.lock();
    if (runner == nullptr) return;
    runner->machine_.OnShardsWait(epoch, waiting_for);
    runner->Publish();
  };
  options.on_note = [weak = weak_from_this()](const std::string& note) {
    if (const auto runner = weak.lock()) runner->AddEvent(note);
  };
  options.done = Posted(
      [epoch](JobRunner& runner, const absl::StatusOr<OpenTask::Opened>& opened) { runner.OnOpened(epoch, opened); });
  open_ = OpenTask::Start(std::move(options));
}

void JobRunner::OnOpened(uint64_t epoch, const absl::StatusOr<OpenTask::Opened>& opened) {
  if (epoch != machine_.epoch()) return;
  open_.reset();
  if (!opened.ok()) {
    Handle(machine_.OnShardsOpened(epoch, opened.status(), Now()));
    return;
  }
  if (!opened->own) {
    ledger_ = Ledger(opened->step, SamplesConsumed(job_.spec, opened->step));
  }
  if (!opened->checkpoint.empty()) {
    AddEvent(absl::StrCat("opened at step ", opened->step, " from ", opened->checkpoint));
  }
  last_checkpoint_ = opened->own ? opened->checkpoint : "";
  Execute(CutHistory{opened->step});
  Handle(machine_.OnShardsOpened(epoch, opened->step, Now()));
}

// --- The change of epoch. ---

void JobRunner::Execute(const StartEpochChange& action) {
  if (open_ != nullptr) open_->Cancel();
  EpochChange::Options options;
  options.epoch = action.epoch;
  options.open_epoch = action.open_epoch;
  options.shards = job_.shards;
  options.incarnations = incarnations_;
  options.optimizer = job_.spec.optimizer();
  options.total_steps = job_.spec.training().steps();
  change_ = std::make_unique<EpochChange>(std::move(options));
  HandleChange(action.epoch, change_->Start(Now()));
}

void JobRunner::HandleChange(uint64_t epoch, EpochChange::Actions actions) {
  for (const EpochChange::Action& action : actions) {
    if (const auto* seal = std::get_if<EpochChange::SendSeal>(&action)) {
      SendSeal(epoch, seal->shard);
    } else if (const auto* decide = std::get_if<EpochChange::SendDecide>(&action)) {
      SendDecide(epoch, *decide);
    } else if (const auto* ready = std::get_if<EpochChange::Ready>(&action)) {
      incarnations_ = ready->incarnations;
      if (ready->completed.has_value()) {
        AddEvent(absl::StrCat("step ", ready->start_step, " was prepared on every shard, and is completed"));
      }
      Handle(machine_.OnEpochReady(epoch, *ready, Now()));
    } else if (const auto* restore = std::get_if<EpochChange::RestoreNeeded>(&action)) {
      Handle(machine_.OnRestoreNeeded(epoch, restore->reason, Now()));
    } else if (const auto* failed = std::get_if<EpochChange::ChangeFailed>(&action)) {
      Handle(machine_.OnEpochChangeFailed(epoch, failed->status, Now()));
    }
  }
  if (change_ == nullptr || change_->epoch() != epoch || change_->ended()) return;
  ArmChangeTick();
}

void JobRunner::SendSeal(uint64_t epoch, int shard) {
  auto reply = Posted([epoch, shard](JobRunner& runner, const absl::StatusOr<v1::SealResponse>& sealed) {
    if (runner.change_ == nullptr || runner.change_->epoch() != epoch) return;
    EpochChange::Actions actions = runner.change_->OnSealReply(shard, sealed, runner.Now());
    if (!sealed.ok()) {
      runner.machine_.OnShardsWait(epoch, runner.change_->WaitingFor());
      runner.Publish();
    }
    runner.HandleChange(epoch, std::move(actions));
  });
  const auto address = AddressOf(static_cast<size_t>(shard));
  if (!address.ok()) {
    reply(absl::StatusOr<v1::SealResponse>(address.status()));
    return;
  }
  v1::SealRequest request;
  request.set_job_id(job_.id);
  request.set_epoch(epoch);
  environment_->shards->Seal(*address, request, kSealTimeout, std::move(reply));
}

void JobRunner::SendDecide(uint64_t epoch, const EpochChange::SendDecide& decide) {
  auto reply = Posted([epoch, shard = decide.shard](JobRunner& runner, const absl::StatusOr<v1::DecideResponse>& done) {
    if (runner.change_ == nullptr || runner.change_->epoch() != epoch) return;
    EpochChange::Actions actions = runner.change_->OnDecideReply(shard, done, runner.Now());
    if (!done.ok()) {
      runner.machine_.OnShardsWait(epoch, runner.change_->WaitingFor());
      runner.Publish();
    }
    runner.HandleChange(epoch, std::move(actions));
  });
  const auto address = AddressOf(static_cast<size_t>(decide.shard));
  if (!address.ok()) {
    reply(absl::StatusOr<v1::DecideResponse>(address.status()));
    return;
  }
  v1::DecideRequest request;
  request.set_job_id(job_.id);
  request.set_epoch(epoch);
  request.set_step(decide.step);
  if (decide.decision.has_value()) *request.mutable_decision() = *decide.decision;
  environment_->shards->Decide(*address, request, kDecideTimeout, std::move(reply));
}

void JobRunner::ArmChangeTick() {
  const absl::Time next = change_->NextTick();
  if (next >= change_tick_at_) return;
  change_tick_at_ = next;
  environment_->loop->PostAt(next, [weak = weak_from_this(), next] {
    const auto runner = weak.lock();
    if (runner == nullptr || runner->change_tick_at_ != next) return;
    runner->change_tick_at_ = absl::InfiniteFuture();
    if (runner->change_ == nullptr || runner->change_->ended()) return;
    runner->HandleChange(runner->change_->epoch(), runner->change_->OnTick(runner->Now()));
  });
}

}  // namespace penstock
