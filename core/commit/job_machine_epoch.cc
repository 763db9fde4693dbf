// From the cause of a new epoch to assigned ranks: persist, open, seal and decide, gather the workers.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_machine.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.

bool JobMachine::Gathering() const {
  return phase_ == Phase::kPersisting || phase_ == Phase::kOpening || phase_ == Phase::kChanging ||
         phase_ == Phase::kGathering;
}

void JobMachine::BeginEpoch(JobActions& out) {
  Enter(Phase::kPersisting);
  backoff_.Reset();
  fetching_ = false;
  ++job_.epoch;
  if (need_open_) {
    job_.open_epoch = job_.epoch;
    job_.shards_open = true;
  }
  job_.message = cause_;
  out.push_back(PersistEpoch{job_});
}

// False when it was one too many, and the job has failed.
bool JobMachine::CountRecovery(absl::Time now, JobActions& out) {
  if (++job_.recoveries_without_progress <= options_.recoveries_without_progress_max) return true;
  Fail(absl::StrCat("gave up after ", options_.recoveries_without_progress_max,
                    " recoveries without a new committed step; the last cause: ", cause_),
       now, out);
  return false;
}

void JobMachine::BeginRecovery(const std::string& cause, bool loss, absl::Time now, JobActions& out) {
  cause_ = cause;
  cause_is_loss_ = loss;
  if (!CountRecovery(now, out)) return;
  ++job_.recoveries;
  job_.state = v1::JOB_STATE_RECOVERING;
  out.push_back(Note{absl::StrCat("recovering: ", cause)});
  StopAllRanks(cause, now, out);
  BeginEpoch(out);
}

JobActions JobMachine::OnEpochPersisted(uint64_t epoch, const absl::Status& status, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || done()) return out;
  if (absl::IsFailedPrecondition(status) || absl::IsAborted(status)) {
    return StepDown(absl::StrCat("epoch ", epoch, " couldn't be taken: ", status.message()));
  }
  if (phase_ != Phase::kPersisting) return out;
  if (!status.ok()) {
    retry_at_ = now + backoff_.Next();
    return out;
  }
  backoff_.Reset();
  if (end_when_persisted_.has_value()) {
    Enter(Phase::kChanging);
    const auto [state, message] = *std::exchange(end_when_persisted_, std::nullopt);
    BeginClosing(state, message, now, out);
    return out;
  }
  AskShards(out);
  return out;
}

// J1: reached from OnEpochPersisted (and, the epoch being the same, from OnShardsOpened) only.
void JobMachine::AskShards(JobActions& out) {
  if (need_open_) {
    Enter(Phase::kOpening);
    out.push_back(OpenShards{job_.epoch, restore_, recorded_step_});
  } else {
    Enter(Phase::kChanging);
    out.push_back(StartEpochChange{job_.epoch, job_.open_epoch});
  }
}

JobActions JobMachine::OnShardsOpened(uint64_t epoch, const absl::StatusOr<uint64_t>& start_step, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || phase_ != Phase::kOpening) return out;
  if (!start_step.ok()) {
    const absl::Status& status = start_step.status();
    if (absl::IsFailedPrecondition(status)) return StepDown(status.ToString());
    // RESOURCE_EXHAUSTED: the job doesn't fit into the shards' memory; it won't at the next try.
    if (IsTransient(status) && !absl::IsResourceExhausted(status)) {
      shards_wait_ = std::string(status.message());
      retry_at_ = now + backoff_.Next();
    } else {
      Fail(absl::StrCat("the parameter shards can't open the job: ", status.ToString()), now, out);
    }
    return out;
  }
  need_open_ = false;
  if (*start_step > recorded_step_ || *start_step < job_.base_step) {
    job_.base_step = *start_step;
    out.push_back(PersistJob{job_});
  }
  // What the old state had beyond this step is gone.
  committed_step_ = *start_step;
  recorded_step_ = *start_step;
  best_step_ = std::max(best_step_, *start_step);
  checkpoint_next_.reset();
  AskShards(out);
  return out;
}

JobActions JobMachine::OnEpochReady(uint64_t epoch, const EpochChange::Ready& ready, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || phase_ != Phase::kChanging) return out;
  out.push_back(CutHistory{ready.start_step});
  recorded_step_ = std::min(recorded_step_, ready.start_step);
  if (recorded_step_ < ready.start_step) Fetch(out);
  NoteCommitted(ready.start_step, out);
  committed_step_ = ready.start_step;
  if (job_.finished && ready.start_step >= total_steps_) {
    // Nothing is left to train or to validate.
    BeginFinishing(now, out);
    return out;
  }
  job_.finished = false;
  Enter(Phase::kGathering);
  TryAssign(now, out);
  return out;
}

JobActions JobMachine::OnRestoreNeeded(uint64_t epoch, const std::string& reason, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || phase_ != Phase::kChanging) return out;
  cause_ = reason;
  cause_is_loss_ = true;
  if (!CountRecovery(now, out)) return out;
  job_.state = v1::JOB_STATE_RECOVERING;
  job_.finished = false;
  need_open_ = true;
  restore_ = true;
  out.push_back(Note{absl::StrCat(reason, "; opening the job again from its newest checkpoint, or from the start")});
  // A fresh epoch: nothing that was on its way to the old state can reach the new one.
  BeginEpoch(out);
  return out;
}

JobActions JobMachine::OnEpochChangeFailed(uint64_t epoch, const absl::Status& status, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || phase_ != Phase::kChanging) return out;
  if (absl::IsFailedPrecondition(status)) return StepDown(status.ToString());
  Fail(absl::StrCat("the change to epoch ", epoch, " failed: ", status.ToString()), now, out);
  return out;
}

void JobMachine::OnShardsWait(uint64_t epoch, const std::string& waiting_for) {
  if (epoch == job_.epoch && (phase_ == Phase::kOpening || phase_ == Phase::kChanging)) shards_wait_ = waiting_for;
}

JobActions JobMachine::OnShardLost(const std::string& reason, absl::Time now) {
  JobActions out;
  if (Running() || phase_ == Phase::kFinishing) {
    BeginRecovery(reason, /*loss=*/true, now, out);
  } else if (phase_ == Phase::kGathering) {
    // What was sealed is gone: seal again, which finds out what to do. The recovery is the same one.
    out.push_back(Note{reason});
    BeginEpoch(out);
  }
  // While shards are being opened or sealed the shard itself says so: it is asked until it answers.
  return out;
}

void JobMachine::TryAssign(absl::Time now, JobActions& out) {
  if (phase_ != Phase::kGathering || !gang_.AllAre(Gang::Member::kFree)) return;  // J2, J3
  Enter(Phase::kConnecting);
  deadline_ = now + options_.ready_timeout;
  gang_.Assign(job_.epoch);
  out.push_back(AssignRanks{job_.epoch, committed_step_, gang_.workers()});
}

}  // namespace penstock
