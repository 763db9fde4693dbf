// The end of a job: the last work when every step is committed, cancel, failure, and cleaning up.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_machine.h"
#include "core/plan/job_facts.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.
using Member = Gang::Member;

JobActions JobMachine::OnJobFinished(uint64_t epoch, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || !Running()) return out;
  if (phase_ == Phase::kAdopting) {
    // The leader speaks for all: it has ended its last step in the very epoch that is waited for.
    out.push_back(Note{"finished while the coordinator was away"});
  }
  NoteCommitted(total_steps_, out);
  BeginFinishing(now, out);
  return out;
}

// --- The last work. The workers stay until it is done: should a shard die now, they are needed again. ---

void JobMachine::BeginFinishing(absl::Time now, JobActions& out) {
  Enter(Phase::kFinishing);
  job_.state = v1::JOB_STATE_RUNNING;
  job_.finished = true;
  committed_step_ = best_step_ = total_steps_;
  out.push_back(PersistJob{job_});
  FinalWork work;
  work.backoff = Backoff(options_.backoff);
  work.needed = recorded_step_ < total_steps_;
  final_history_ = work;
  work.needed = IsCheckpointStep(options_.spec, total_steps_);
  final_checkpoint_ = work;
  // A checkpoint brings the digest along.
  work.needed = !work.needed;
  final_digest_ = work;
  DriveFinalWork(now, out);
}

void JobMachine::DriveFinalWork(absl::Time now, JobActions& out) {
  const auto due = [now](const FinalWork& work) {
    return work.needed && !work.under_way && (work.attempts == 0 || now >= work.retry_at);
  };
  const auto begin = [](FinalWork& work) {
    work.under_way = true;
    ++work.attempts;
    work.retry_at = absl::InfiniteFuture();
  };
  if (due(final_history_) && !fetching_) {
    begin(final_history_);
    Fetch(out);
  }
  // After an earlier checkpoint that is still being written, and with a whole history (StartNextCheckpoint says why).
  if (due(final_checkpoint_) && !final_history_.needed && !checkpoint_under_way_.has_value()) {
    begin(final_checkpoint_);
    checkpoint_under_way_ = total_steps_;
    out.push_back(WriteCheckpoint{total_steps_});
  }
  if (due(final_digest_)) {
    begin(final_digest_);
    out.push_back(TakeDigest{total_steps_});
  }
  if (!final_history_.needed && !final_checkpoint_.needed && !final_digest_.needed) {
    out.push_back(Note{absl::StrCat("succeeded: ", total_steps_, " steps")});
    BeginClosing(v1::JOB_STATE_SUCCEEDED, "", now, out);
  }
}

void JobMachine::FinalWorkDone(FinalWork& work, const char* what, const absl::Status& status, absl::Time now,
                               JobActions& out) {
  const bool asked = std::exchange(work.under_way, false);
  if (status.ok() || !asked) {
    // Not asked for by this finish: by one that a recovery interrupted. Its failure is none of this one's attempts.
    if (status.ok()) work.needed = false;
    DriveFinalWork(now, out);
  } else if (absl::IsNotFound(status)) {
    BeginRecovery(absl::StrCat(what, ": ", status.ToString()), /*loss=*/true, now, out);
  } else if (work.attempts >= options_.final_attempts_max) {
    Fail(absl::StrCat(what, " in ", work.attempts, " attempts: ", status.ToString()), now, out);
  } else {
    work.retry_at = now + work.backoff.Next();
  }
}

void JobMachine::HistoryFetched(const absl::Status& status, absl::Time now, JobActions& out) {
  // The answer may be one that was asked for before the last step.
  if (recorded_step_ >= total_steps_) final_history_.needed = false;
  if (!final_history_.under_way) {
    DriveFinalWork(now, out);
    return;
  }
  const bool short_answer = status.ok() && final_history_.needed;
  FinalWorkDone(
      final_history_, "the history of the last steps couldn't be read from the shards",
      short_answer ? absl::UnavailableError(absl::StrCat("records up to step ", recorded_step_, " only")) : status, now,
      out);
}

JobActions JobMachine::OnDigestDone(uint64_t step, const absl::Status& status, absl::Time now) {
  JobActions out;
  if (phase_ == Phase::kFinishing && step == total_steps_) {
    FinalWorkDone(final_digest_, "the digest couldn't be taken", status, now, out);
  } else if (!status.ok() && !done()) {
    out.push_back(Note{absl::StrCat("the digest of step ", step, " couldn't be taken: ", status.ToString())});
  }
  return out;
}

// --- Closing. ---

void JobMachine::Fail(const std::string& message, absl::Time now, JobActions& out) {
  out.push_back(Note{absl::StrCat("failed: ", message)});
  BeginClosing(v1::JOB_STATE_FAILED, message, now, out);
}

JobActions JobMachine::OnCancel(absl::Time now) {
  JobActions out;
  if (!live() || done() || end_when_persisted_.has_value()) return out;
  out.push_back(Note{"cancelled by the user"});
  BeginClosing(v1::JOB_STATE_CANCELLED, "cancelled by the user", now, out);
  return out;
}

void JobMachine::BeginClosing(v1::JobState state, const std::string& message, absl::Time now, JobActions& out) {
  if (phase_ == Phase::kPersisting) {
    // Whether the epoch is this coordinator's isn't known yet, so nothing may be written or closed under it (J1).
    if (!end_when_persisted_.has_value()) end_when_persisted_ = {state, message};
    return;
  }
  Enter(Phase::kClosing);
  // The end is in the store before anything is let go: a coordinator that restarts here cleans up, and trains nothing
  // again.
  job_.state = state;
  job_.message = message;
  out.push_back(PersistJob{job_});
  StopAllRanks(message.empty() ? "the job has succeeded" : message, now, out);
  std::vector<WorkerRef> released;
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    if (!gang_.slot(rank).has_value() || gang_.slot(rank)->member != Member::kFree) continue;
    released.push_back(gang_.slot(rank)->worker);
    gang_.Remove(rank);
  }
  if (!released.empty()) out.push_back(ReleaseWorkers{released});
  shards_closed_ = !job_.shards_open;
  if (job_.shards_open) out.push_back(CloseShards{job_.epoch});
  TryEnd(out);
}

JobActions JobMachine::OnShardsClosed(uint64_t epoch, absl::Time) {
  JobActions out;
  if (phase_ != Phase::kClosing || epoch != job_.epoch) return out;
  shards_closed_ = true;
  TryEnd(out);
  return out;
}

void JobMachine::TryEnd(JobActions& out) {
  if (phase_ != Phase::kClosing || !shards_closed_ || gang_.held() > 0) return;  // J4
  Enter(Phase::kEnded);
  job_.shards_open = false;
  out.push_back(PersistJob{job_});
}

}  // namespace penstock
