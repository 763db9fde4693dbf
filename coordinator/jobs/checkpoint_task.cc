#include "coordinator/jobs/checkpoint_task.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "services/base/log.h"
#include "services/checkpoint/catalog.h"
#include "services/checkpoint/manifest.h"
#include "services/checkpoint/reader.h"
#include "services/checkpoint/writer.h"

namespace penstock {

std::shared_ptr<CheckpointTask> CheckpointTask::Start(Options options) {
  std::shared_ptr<CheckpointTask> task(new CheckpointTask(std::move(options)));
  task->options_.environment->pool->Run([task] {
    absl::StatusOr<Prepared> prepared = task->Prepare();
    task->options_.environment->loop->Post([task, prepared = std::move(prepared)] { task->OnPrepared(prepared); });
  });
  return task;
}

void CheckpointTask::Cancel() {
  cancelled_ = true;
  // It holds this task, and this task it, until it has answered.
  if (const auto write = std::exchange(write_, nullptr)) {
    write->Cancel();
    Abandon();
  }
}

std::string CheckpointTask::Folder() const {
  return JobCheckpointFolder(options_.spec.checkpoint().directory(), options_.spec.name());
}

// One that this job has written counts; one that an earlier job of the same name left in the folder doesn't.
std::optional<CheckpointTask::Written> CheckpointTask::FindComplete() const {
  const auto own = options_.environment->store->ReadCheckpoints(options_.job_id);
  if (!own.ok()) return std::nullopt;
  for (const StoredCheckpoint& checkpoint : *own) {
    if (checkpoint.step != options_.step) continue;
    const auto reader = CheckpointReader::Open(*options_.environment->blobs, checkpoint.path);
    if (reader.ok()) return Written{checkpoint.path, (*reader)->manifest().digest};
  }
  return std::nullopt;
}

absl::StatusOr<CheckpointTask::Prepared> CheckpointTask::Prepare() const {
  Prepared prepared;
  prepared.complete = FindComplete();
  if (prepared.complete.has_value()) return prepared;
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(options_.spec.model()));
  PENSTOCK_ASSIGN_OR_RETURN(prepared.partial,
                            PrepareCheckpoint(*options_.environment->blobs, Folder(), options_.step, table));
  return prepared;
}

void CheckpointTask::OnPrepared(const absl::StatusOr<Prepared>& prepared) {
  if (prepared.ok()) partial_ = prepared->partial;
  if (cancelled_) {
    Abandon();
    return;
  }
  if (!prepared.ok()) {
    options_.done(prepared.status());
    return;
  }
  if (prepared->complete.has_value()) {
    options_.done(*prepared->complete);
    return;
  }
  const JobEnvironment& environment = *options_.environment;
  FanOut<v1::WriteCheckpointResponse>::Options write;
  write.loop = environment.loop;
  write.clock = environment.clock;
  write.shards = options_.shards;
  write.attempts_max = kTaskAttemptsMax;
  // A full disk doesn't pass while we hold the half that was written.
  write.is_transient = [](const absl::Status& status) {
    return IsTransient(status) && !absl::IsResourceExhausted(status);
  };
  write.send = [task = shared_from_this()](size_t shard, FanOut<v1::WriteCheckpointResponse>::Reply reply) {
    const auto address = task->options_.environment->cluster->FindShard(task->options_.shards[shard]);
    if (!address.has_value()) {
      reply(absl::UnavailableError(absl::StrCat(task->options_.shards[shard], " isn't registered")));
      return;
    }
    v1::WriteCheckpointRequest request;
    request.set_job_id(task->options_.job_id);
    request.set_step(task->options_.step);
    request.set_directory(task->partial_);
    task->options_.environment->shards->WriteCheckpoint(*address, request, kCheckpointTimeout, std::move(reply));
  };
  write.done = [task = shared_from_this()](absl::StatusOr<std::vector<v1::WriteCheckpointResponse>> written) {
    task->OnWritten(std::move(written));
  };
  write_ = FanOut<v1::WriteCheckpointResponse>::Start(std::move(write));
}

void CheckpointTask::OnWritten(absl::StatusOr<std::vector<v1::WriteCheckpointResponse>> written) {
  write_.reset();
  if (!written.ok()) {
    Abandon();
    options_.done(written.status());
    return;
  }
  options_.environment->pool->Run([task = shared_from_this(), responses = *std::move(written)] {
    absl::StatusOr<Written> finished =
        task->cancelled_ ? absl::CancelledError("given up") : task->Finish(task->partial_, responses);
    task->options_.environment->loop->Post([task, finished = std::move(finished)] {
      if (!finished.ok()) task->Abandon();
      if (!task->cancelled_) task->options_.done(finished);
    });
  });
}

absl::StatusOr<CheckpointTask::Written> CheckpointTask::Finish(
    const std::string& partial, const std::vector<v1::WriteCheckpointResponse>& responses) const {
  Blobs& blobs = *options_.environment->blobs;
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(options_.spec.model()));
  std::vector<v1::PieceDigest> pieces;
  for (const v1::WriteCheckpointResponse& response : responses) {
    pieces.insert(pieces.end(), response.pieces().begin(), response.pieces().end());
  }
  PENSTOCK_ASSIGN_OR_RETURN(
      Manifest manifest,
      MakeManifest(options_.spec, options_.step, SamplesConsumed(options_.spec, options_.step), table.size(), pieces));
  Written written;
  written.digest = manifest.digest;
  PENSTOCK_ASSIGN_OR_RETURN(written.path, FinishCheckpoint(blobs, partial, std::move(manifest)));
  // The new one is complete: that an old one can't be deleted is no failure of it.
  const absl::Status status = ApplyRetention(blobs, Folder(), options_.spec.checkpoint().keep(), options_.step);
  if (!status.ok()) LogWarning("job {}: old checkpoints can't be deleted: {}", options_.job_id, status);
  return written;
}

void CheckpointTask::Abandon() {
  if (partial_.empty()) return;
  options_.environment->pool->Run([task = shared_from_this()] {
    const absl::Status status = AbandonCheckpoint(*task->options_.environment->blobs, task->partial_);
    if (!status.ok()) LogWarning("the folder {} can't be taken away: {}", task->partial_, status);
  });
}

}  // namespace penstock
