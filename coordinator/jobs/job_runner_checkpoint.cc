// Checkpoints, digests, and letting go of the shards.
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/job_runner.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "services/checkpoint/digest.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.

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
    // Above the last epoch, so that an OpenJob of it that is late (queued on the shard, say, when the job was
    // cancelled) finds the job closed and can't bring it back.
    request.set_epoch(epoch + 1);
    runner->environment_->shards->CloseJob(*address, request, kCloseTimeout, std::move(reply));
  };
  close.done =
      Posted([epoch = action.epoch](JobRunner& runner, const absl::StatusOr<std::vector<v1::CloseJobResponse>>&) {
        runner.Handle(runner.machine_.OnShardsClosed(epoch, runner.Now()));
      });
  FanOut<v1::CloseJobResponse>::Start(std::move(close));
}

}  // namespace penstock
