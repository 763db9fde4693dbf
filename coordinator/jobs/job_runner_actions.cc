// The machine's actions, put into effect: the store, workers, history. Shards: job_runner_epoch.cc and
// job_runner_checkpoint.cc.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/job_runner.h"
#include "services/base/log.h"

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
        if (absl::IsFailedPrecondition(status)) {
          // Another coordinator has the job: what else this one wanted to do is void.
          runner.actions_.clear();
          actions = runner.machine_.OnEpochPersisted(epoch, status, runner.Now());
        }
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
  environment_->writer->Write([id = job_.id, epoch = machine_.epoch(), step = action.step](Store& store) {
    return store.CutSteps(id, epoch, step);
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
  PredictSteps(action.workers);
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
    const auto info = environment_->cluster->FindWorker(action.workers[rank]);
    if (!info.has_value()) continue;
    peer.set_address(info->address());
    peer.set_device(info->device());
    peer.set_nccl(info->device_info().nccl());
    peer.set_host_id(info->host().id());
    peer.set_pci_bus_id(info->device_info().pci_bus_id());
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
  environment_->writer->AddSteps(job_.id, action.epoch, std::move(missing), /*replace=*/false);
  if (ledger_.contiguous_step() < fetched->committed_step()) {
    LogWarning("job {}: the shards don't hold the record of step {} any more", job_.id, ledger_.contiguous_step() + 1);
  }
  Handle(machine_.OnStepsFetched(action.epoch, fetched->committed_step(), Now()));
}

}  // namespace penstock
