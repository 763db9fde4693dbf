// The machine's actions, put into effect.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/job_runner.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "services/base/log.h"
#include "services/checkpoint/digest.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.

// --- The store. ---

void JobRunner::Execute(const PersistEpoch& action) {
  // Whatever the ranks of the old epoch still want from each other is over.
  environment_->cluster->EndEpochs(job_.id);
  environment_->writer->WriteOnce(
      [id = job_.id, coordinator = environment_->coordinator_id, job = action.job,
       now = environment_->clock->Now()](Store& store) { return store.PersistEpoch(id, coordinator, job, now); },
      Posted([epoch = action.job.epoch](JobRunner& runner, const absl::Status& status) {
        if (!status.ok()) LogWarning("job {}: epoch {} isn't in the store yet: {}", runner.id(), epoch, status);
        runner.Handle(runner.machine_.OnEpochPersisted(epoch, status, runner.Now()));
      }));
}

void JobRunner::Execute(const PersistJob& action) {
  blocked_ = true;
  v1::JobStatus shown = Status();
  shown.clear_spec();
  shown.set_state(action.job.state);
  environment_->writer->Write(
      [id = job_.id, job = action.job, shown](Store& store) { return store.WriteJob(id, job, shown); },
      Posted([epoch = action.job.epoch](JobRunner& runner, const absl::Status& status) {
        runner.blocked_ = false;
        JobActions actions;
        if (absl::IsFailedPrecondition(status)) actions = runner.machine_.OnEpochPersisted(epoch, status, runner.Now());
        runner.Handle(std::move(actions));
      }));
}

void JobRunner::Execute(const CutHistory& action) {
  ledger_.Cut(action.step);
  progress_.Clear();
  if (loss_step_ > action.step) {
    loss_.reset();
    loss_step_ = 0;
  }
  if (validation_step_ > action.step) {
    validation_loss_.reset();
    validation_step_ = 0;
  }
  if (digest_step_ > action.step) {
    digest_.clear();
    digest_step_ = 0;
  }
  environment_->writer->Write([id = job_.id, step = action.step, start = job_.start_step](Store& store) {
    return store.CutSteps(id, step, start);
  });
}

void JobRunner::Execute(const Note& action) { AddEvent(action.message); }

void JobRunner::Execute(const StepDown& action) {
  AddEvent(absl::StrCat("this coordinator lets go of the job: ", action.reason));
  if (open_ != nullptr) open_->Cancel();
  if (checkpoint_ != nullptr) checkpoint_->Cancel();
  change_.reset();
}

// --- Workers. ---

void JobRunner::Execute(const AssignRanks& action) {
  environment_->cluster->BeginEpoch(job_.id, action.epoch);
  v1::MemberCommand command;
  v1::Assignment& assignment = *command.mutable_assign();
  assignment.set_job_id(job_.id);
  assignment.set_epoch(action.epoch);
  *assignment.mutable_spec() = job_.spec;
  assignment.set_start_step(action.start_step);
  for (size_t rank = 0; rank < action.workers.size(); ++rank) {
    v1::Peer& peer = *assignment.add_peers();
    peer.set_rank(static_cast<uint32_t>(rank));
    peer.set_worker_id(action.workers[rank].id);
    // One that is gone by now is reported lost soon, and this epoch is over.
    if (const auto info = environment_->cluster->FindWorker(action.workers[rank])) peer.set_address(info->address());
  }
  for (size_t shard = 0; shard < job_.shards.size(); ++shard) {
    const auto address = AddressOf(shard);
    assignment.add_shards(address.ok() ? address->address : "");
  }
  for (size_t rank = 0; rank < action.workers.size(); ++rank) {
    assignment.set_rank(static_cast<uint32_t>(rank));
    environment_->cluster->Send(action.workers[rank], command);
  }
}

void JobRunner::Execute(const StopRanks& action) {
  v1::MemberCommand command;
  command.mutable_stop()->set_job_id(job_.id);
  command.mutable_stop()->set_epoch(action.epoch);
  command.mutable_stop()->set_reason(action.reason);
  for (const WorkerRef& worker : action.workers) environment_->cluster->Send(worker, command);
}

void JobRunner::Execute(const ReleaseWorkers&) { environment_->cluster->ScheduleSoon(); }

void JobRunner::Execute(const EvictWorker& action) { environment_->cluster->Evict(action.worker, action.reason); }

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
    OpenOnShards(action.epoch, action.restore);
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
      Posted([action](JobRunner& runner, const absl::Status&) { runner.OpenOnShards(action.epoch, action.restore); }));
}

void JobRunner::OpenOnShards(uint64_t epoch, bool restore) {
  if (epoch != machine_.epoch()) return;
  OpenTask::Options options;
  options.environment = environment_;
  options.job_id = job_.id;
  options.spec = job_.spec;
  options.epoch = epoch;
  options.restore = restore;
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
    job_.start_step = opened->step;
    ledger_ = Ledger(opened->step, SamplesConsumed(job_.spec, opened->step));
  }
  if (!opened->checkpoint.empty()) {
    AddEvent(absl::StrCat("opened at step ", opened->step, " from ", opened->checkpoint));
  }
  last_checkpoint_ = opened->own ? opened->checkpoint : "";
  last_checkpoint_step_ = opened->own ? opened->step : 0;
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

// --- Missing history. ---

void JobRunner::Execute(const FetchSteps& action) {
  FetchSteps fetch = action;
  // A hole that an earlier try left is filled on the way.
  fetch.from_step = std::min(fetch.from_step, ledger_.contiguous_step() + 1);
  FetchFrom(0, fetch);
}

// From the first shard that answers: each one keeps the records of all steps.
void JobRunner::FetchFrom(size_t shard, const FetchSteps& action) {
  auto reply = Posted([shard, action](JobRunner& runner, const absl::StatusOr<v1::GetStepsResponse>& fetched) {
    if (!fetched.ok() && shard + 1 < runner.job_.shards.size()) {
      runner.FetchFrom(shard + 1, action);
    } else {
      runner.OnFetched(action, fetched);
    }
  });
  const absl::StatusOr<ShardAddress> address =
      job_.shards.empty() ? absl::StatusOr<ShardAddress>(absl::NotFoundError("the job has no shards"))
                          : AddressOf(shard);
  if (!address.ok()) {
    reply(absl::StatusOr<v1::GetStepsResponse>(address.status()));
    return;
  }
  v1::GetStepsRequest request;
  request.set_job_id(job_.id);
  request.set_from_step(action.from_step);
  environment_->shards->GetSteps(*address, request, kStepsTimeout, std::move(reply));
}

void JobRunner::OnFetched(const FetchSteps& action, const absl::StatusOr<v1::GetStepsResponse>& fetched) {
  if (action.epoch != machine_.epoch()) return;
  if (!fetched.ok()) {
    LogWarning("job {}: the history from step {} on can't be read from the shards: {}", job_.id, action.from_step,
               fetched.status());
    Handle(machine_.OnStepsFetched(action.epoch, fetched.status(), Now()));
    return;
  }
  std::vector<v1::StepRecord> missing;
  for (const v1::StepRecord& record : fetched->records()) {
    if (record.step() < action.from_step || record.step() > fetched->committed_step() || ledger_.Has(record.step())) {
      continue;
    }
    ledger_.Add(record);
    if (record.step() >= loss_step_) {
      loss_ = record.loss();
      loss_step_ = record.step();
    }
    missing.push_back(record);
  }
  environment_->writer->AddSteps(job_.id, std::move(missing), /*replace=*/false);
  if (ledger_.contiguous_step() < fetched->committed_step()) {
    LogWarning("job {}: the shards don't hold the record of step {} any more", job_.id, ledger_.contiguous_step() + 1);
  }
  Handle(machine_.OnStepsFetched(action.epoch, fetched->committed_step(), Now()));
}

// --- Checkpoints and digests. ---

void JobRunner::Execute(const WriteCheckpoint& action) {
  CheckpointTask::Options options;
  options.environment = environment_;
  options.job_id = job_.id;
  options.spec = job_.spec;
  options.step = action.step;
  options.shards = job_.shards;
  options.done =
      Posted([step = action.step](JobRunner& runner, const absl::StatusOr<CheckpointTask::Written>& written) {
        if (runner.checkpoint_ == nullptr || runner.checkpoint_step_ != step) return;
        runner.OnCheckpointWritten(step, written);
      });
  checkpoint_step_ = action.step;
  checkpoint_ = CheckpointTask::Start(std::move(options));
}

void JobRunner::OnCheckpointWritten(uint64_t step, const absl::StatusOr<CheckpointTask::Written>& written) {
  checkpoint_.reset();
  if (!written.ok()) {
    // The last one is tried again, from the same snapshot.
    if (step < job_.spec.training().steps()) ReleaseSnapshots(step);
    Handle(machine_.OnCheckpointDone(step, written.status(), Now()));
    return;
  }
  last_checkpoint_ = written->path;
  last_checkpoint_step_ = step;
  if (step >= digest_step_) {
    digest_ = written->digest;
    digest_step_ = step;
  }
  AddEvent(absl::StrCat("checkpoint of step ", step, " is complete: ", written->path));
  // The snapshot goes when the store knows the checkpoint: a coordinator that dies in between writes it again.
  environment_->writer->Write([id = job_.id, checkpoint = StoredCheckpoint{step, written->path}](
                                  Store& store) { return store.AddCheckpoint(id, checkpoint); },
                              Posted([step](JobRunner& runner, const absl::Status&) {
                                runner.ReleaseSnapshots(step);
                                runner.Handle(runner.machine_.OnCheckpointDone(step, absl::OkStatus(), runner.Now()));
                              }));
}

// The state that it was taken of is about to be replaced.
void JobRunner::CutCheckpointUnderWay() {
  if (checkpoint_ == nullptr) return;
  checkpoint_->Cancel();
  checkpoint_.reset();
  Posted([step = checkpoint_step_](JobRunner& runner, const absl::Status& status) {
    runner.Handle(runner.machine_.OnCheckpointDone(step, status, runner.Now()));
  })(absl::Status(absl::CancelledError("given up")));
}

void JobRunner::Execute(const ReleaseSnapshot& action) { ReleaseSnapshots(action.step); }

void JobRunner::ReleaseSnapshots(uint64_t step) {
  auto release = FanOutOptions<v1::ReleaseSnapshotResponse>();
  release.attempts_max = kTaskAttemptsMax;
  release.best_effort = true;
  release.send = [runner = shared_from_this(), step](size_t shard, FanOut<v1::ReleaseSnapshotResponse>::Reply reply) {
    const auto address = runner->AddressOf(shard);
    if (!address.ok()) {
      reply(address.status());
      return;
    }
    v1::ReleaseSnapshotRequest request;
    request.set_job_id(runner->job_.id);
    request.set_step(step);
    runner->environment_->shards->ReleaseSnapshot(*address, request, kStepsTimeout, std::move(reply));
  };
  release.done = [](const absl::StatusOr<std::vector<v1::ReleaseSnapshotResponse>>&) {};
  FanOut<v1::ReleaseSnapshotResponse>::Start(std::move(release));
}

void JobRunner::Execute(const TakeDigest& action) {
  auto digest = FanOutOptions<v1::GetDigestResponse>();
  digest.attempts_max = kTaskAttemptsMax;
  digest.send = [runner = shared_from_this(), step = action.step](size_t shard,
                                                                  FanOut<v1::GetDigestResponse>::Reply reply) {
    const auto address = runner->AddressOf(shard);
    if (!address.ok()) {
      reply(address.status());
      return;
    }
    v1::GetDigestRequest request;
    request.set_job_id(runner->job_.id);
    request.set_step(step);
    runner->environment_->shards->GetDigest(*address, request, kDigestTimeout, std::move(reply));
  };
  auto finish = Posted([step = action.step](JobRunner& runner, const absl::StatusOr<std::string>& taken) {
    if (taken.ok() && step >= runner.digest_step_) {
      runner.digest_ = *taken;
      runner.digest_step_ = step;
    }
    runner.Handle(runner.machine_.OnDigestDone(step, taken.status(), runner.Now()));
  });
  digest.done = [environment = environment_, spec = job_.spec, step = action.step,
                 finish](absl::StatusOr<std::vector<v1::GetDigestResponse>> responses) {
    if (!responses.ok()) {
      finish(absl::StatusOr<std::string>(responses.status()));
      return;
    }
    environment->pool->Run([spec, step, finish, responses = *std::move(responses)] {
      const auto combine = [&]() -> absl::StatusOr<std::string> {
        PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(spec.model()));
        std::vector<v1::PieceDigest> pieces;
        for (const v1::GetDigestResponse& response : responses) {
          pieces.insert(pieces.end(), response.pieces().begin(), response.pieces().end());
        }
        PENSTOCK_ASSIGN_OR_RETURN(const std::vector<PieceDigests> ordered, OrderPieces(pieces, table.size()));
        return CombineDigest(ordered, step, SamplesConsumed(spec, step));
      };
      finish(combine());
    });
  };
  FanOut<v1::GetDigestResponse>::Start(std::move(digest));
}

// --- The end. ---

void JobRunner::Execute(const CloseShards& action) {
  if (open_ != nullptr) open_->Cancel();
  change_.reset();
  CutCheckpointUnderWay();
  auto close = FanOutOptions<v1::CloseJobResponse>();
  close.attempts_max = kTaskAttemptsMax;
  close.best_effort = true;
  close.send = [runner = shared_from_this(), epoch = action.epoch](size_t shard,
                                                                   FanOut<v1::CloseJobResponse>::Reply reply) {
    const auto address = runner->AddressOf(shard);
    if (!address.ok()) {
      reply(address.status());
      return;
    }
    v1::CloseJobRequest request;
    request.set_job_id(runner->job_.id);
    request.set_epoch(epoch);
    runner->environment_->shards->CloseJob(*address, request, kCloseTimeout, std::move(reply));
  };
  close.done =
      Posted([epoch = action.epoch](JobRunner& runner, const absl::StatusOr<std::vector<v1::CloseJobResponse>>&) {
        runner.Handle(runner.machine_.OnShardsClosed(epoch, runner.Now()));
      });
  FanOut<v1::CloseJobResponse>::Start(std::move(close));
}

}  // namespace penstock
