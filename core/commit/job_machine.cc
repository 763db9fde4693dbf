// Start, restart after a coordinator's death, steps while training, and what is shown.
#include "core/commit/job_machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/job_state.h"
#include "core/plan/job_facts.h"

namespace penstock {

using namespace job_action;  // NOLINT: the actions are this file's vocabulary.

JobMachine::JobMachine(Options options)
    : options_(std::move(options)),
      total_steps_(options_.spec.training().steps()),
      gang_(WorldSize(options_.spec)),
      backoff_(options_.backoff) {
  PENSTOCK_CHECK(gang_.ranks() > 0 && total_steps_ > 0);
}

bool JobMachine::live() const {
  return !IsEnded(job_.state);
}

void JobMachine::Enter(Phase phase) {
  phase_ = phase;
  retry_at_ = absl::InfiniteFuture();
  deadline_ = absl::InfiniteFuture();
  shards_wait_.clear();
}

JobActions JobMachine::StepDown(const std::string& reason) {
  Enter(Phase::kSteppedDown);
  return {job_action::StepDown{reason}};
}

// --- Restart. ---

JobActions JobMachine::Restore(const PersistedJob& job, uint64_t history_step, absl::Time now) {
  PENSTOCK_CHECK(phase_ == Phase::kPending && job_.epoch == 0);
  job_ = job;
  committed_step_ = recorded_step_ = best_step_ = std::max(history_step, job.base_step);
  JobActions out;
  if (!live()) {
    // It ended, but the old coordinator may not have got round to cleaning up.
    Enter(Phase::kClosing);
    shards_closed_ = !job_.shards_open;
    if (job_.shards_open) out.push_back(CloseShards{job_.epoch});
    TryEnd(out);
    return out;
  }
  if (job_.epoch == 0) return out;
  // Whether the shards were opened under open_epoch isn't known for certain: sealing will tell.
  need_open_ = false;
  cause_ = "the coordinator restarted";
  if (job_.finished) {
    BeginFinishing(now, out);
  } else {
    Enter(Phase::kAdopting);
    deadline_ = now + options_.adopt_timeout;
  }
  return out;
}

// --- Steps. ---

void JobMachine::NoteCommitted(uint64_t step, JobActions& out) {
  if (step <= committed_step_) return;
  const uint64_t before = committed_step_;
  committed_step_ = step;
  if (step > best_step_) {
    best_step_ = step;
    job_.recoveries_without_progress = 0;
  }
  // Steps whose report was missed count as well; of several checkpoints the newest is enough. The last step's
  // checkpoint and digest belong to the end of the job.
  for (uint64_t s = std::min(step, total_steps_ - 1); s > before; --s) {
    if (!IsCheckpointStep(options_.spec, s)) continue;
    RequestCheckpoint(s, out);
    break;
  }
  if (step < total_steps_ && IsDigestStep(options_.spec, step) && !IsCheckpointStep(options_.spec, step)) {
    out.push_back(TakeDigest{step});
  }
}

JobActions JobMachine::OnStepRecord(uint64_t epoch, const v1::StepRecord& record, absl::Time) {
  JobActions out;
  if (epoch != job_.epoch || !(Running() || phase_ == Phase::kFinishing)) return out;
  const uint64_t step = record.step();
  if (step > total_steps_) return out;
  if (step == recorded_step_ + 1) recorded_step_ = step;
  if (step > recorded_step_) Fetch(out);
  NoteCommitted(step, out);
  return out;
}

// Reports were missed, while no coordinator was there or by a rank that died.
void JobMachine::Fetch(JobActions& out) {
  if (fetching_) return;
  fetching_ = true;
  out.push_back(FetchSteps{job_.epoch, recorded_step_ + 1});
}

JobActions JobMachine::OnStepsFetched(uint64_t epoch, const absl::StatusOr<uint64_t>& committed_step, absl::Time now) {
  JobActions out;
  if (epoch != job_.epoch || done()) return out;
  fetching_ = false;
  if (committed_step.ok()) {
    recorded_step_ = std::max(recorded_step_, std::min(*committed_step, total_steps_));
    if (Running()) NoteCommitted(recorded_step_, out);
    if (phase_ != Phase::kFinishing && phase_ != Phase::kClosing) StartNextCheckpoint(out);
    if (phase_ == Phase::kTraining && recorded_step_ == total_steps_) deadline_ = now + options_.finish_report_timeout;
    if (Running()) backoff_.Reset();
  } else if (Running()) {
    retry_at_ = now + backoff_.Next();
  }
  if (phase_ == Phase::kFinishing) HistoryFetched(committed_step.status(), now, out);
  return out;
}

// --- Checkpoints beside the training. ---

void JobMachine::RequestCheckpoint(uint64_t step, JobActions& out) {
  // Storage is slower than training: the newest one waits, and what waited before is given up.
  if (checkpoint_next_.has_value() && *checkpoint_next_ != step) {
    out.push_back(
        Note{absl::StrCat("the checkpoint of step ", *checkpoint_next_, " is left out for the one of step ", step)});
    out.push_back(ReleaseSnapshot{*checkpoint_next_});
  }
  checkpoint_next_ = step;
  StartNextCheckpoint(out);
}

// One at a time, and only of a step up to which the history is whole: the records of the steps behind a checkpoint can
// be lost with the shards, and a job that is restored from it doesn't make them again.
void JobMachine::StartNextCheckpoint(JobActions& out) {
  if (!checkpoint_next_.has_value() || checkpoint_under_way_.has_value() || *checkpoint_next_ > recorded_step_) return;
  checkpoint_under_way_ = std::exchange(checkpoint_next_, std::nullopt);
  out.push_back(WriteCheckpoint{*checkpoint_under_way_});
}

JobActions JobMachine::OnCheckpointDone(uint64_t step, const absl::Status& status, absl::Time now) {
  JobActions out;
  if (checkpoint_under_way_ != step || done()) return out;
  checkpoint_under_way_.reset();
  if (!status.ok()) {
    out.push_back(Note{absl::StrCat("the checkpoint of step ", step, " couldn't be written: ", status.ToString())});
  }
  if (phase_ == Phase::kClosing) return out;
  if (phase_ == Phase::kFinishing) {
    checkpoint_next_.reset();
    if (step == total_steps_) {
      FinalWorkDone(final_checkpoint_, "the final checkpoint couldn't be written", status, now, out);
    } else {
      DriveFinalWork(now, out);
    }
    return out;
  }
  StartNextCheckpoint(out);
  return out;
}

// --- Time. ---

absl::Time JobMachine::NextTick() const {
  if (done()) return absl::InfiniteFuture();
  absl::Time next = std::min(retry_at_, deadline_);
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    const std::optional<Gang::Slot>& slot = gang_.slot(rank);
    if (slot.has_value() && slot->member == Gang::Member::kStopping) {
      next = std::min({next, slot->resend_at, slot->evict_at});
    }
  }
  if (phase_ == Phase::kFinishing) {
    next = std::min({next, final_history_.retry_at, final_checkpoint_.retry_at, final_digest_.retry_at});
  }
  return next;
}

JobActions JobMachine::OnTick(absl::Time now) {
  JobActions out;
  if (done()) return out;
  TickStopping(now, out);
  if (now >= retry_at_) {
    retry_at_ = absl::InfiniteFuture();
    if (phase_ == Phase::kPersisting) out.push_back(PersistEpoch{job_});
    if (Running()) Fetch(out);
    if (phase_ == Phase::kOpening) out.push_back(OpenShards{job_.epoch, restore_, recorded_step_});
  }
  if (now >= deadline_) {
    deadline_ = absl::InfiniteFuture();
    if (phase_ == Phase::kAdopting) {
      BeginRecovery(absl::StrCat("the coordinator restarted, and ", gang_.held(), " of ", gang_.ranks(),
                                 " ranks came back within ", absl::FormatDuration(options_.adopt_timeout)),
                    /*loss=*/false, now, out);
    } else if (phase_ == Phase::kConnecting) {
      BeginRecovery(absl::StrCat("ranks weren't ready within ", absl::FormatDuration(options_.ready_timeout), ": ",
                                 UnreadyRanks()),
                    /*loss=*/false, now, out);
    } else if (phase_ == Phase::kTraining) {
      BeginRecovery("every step is committed, but the leader's last report was lost with the old coordinator",
                    /*loss=*/false, now, out);
    }
  }
  if (phase_ == Phase::kFinishing) DriveFinalWork(now, out);
  return out;
}

// --- What is shown. ---

std::string JobMachine::UnreadyRanks() const {
  std::string text;
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    const std::optional<Gang::Slot>& slot = gang_.slot(rank);
    if (!slot.has_value() || slot->member == Gang::Member::kReady) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", "rank ", rank, " (", slot->worker.id, ")");
  }
  return text;
}

std::string JobMachine::WorkersMessage() const {
  const int missing = gang_.missing();
  std::string text;
  if (missing > 0) {
    text = absl::StrCat("waiting for ", missing, missing == 1 ? " more worker" : " more workers");
    if (registered_workers_ < gang_.ranks()) {
      absl::StrAppend(&text, ": ", registered_workers_, " of ", gang_.ranks(),
                      gang_.ranks() == 1 ? " is registered" : " are registered");
    } else if (!short_detail_.empty()) {
      absl::StrAppend(&text, ": ", short_detail_);
    }
    return text;
  }
  for (int rank = 0; rank < gang_.ranks(); ++rank) {
    const std::optional<Gang::Slot>& slot = gang_.slot(rank);
    if (!slot.has_value() || slot->member != Gang::Member::kStopping) continue;
    absl::StrAppend(&text, text.empty() ? "waiting until " : ", ", slot->worker.id);
  }
  if (!text.empty()) absl::StrAppend(&text, " has stopped");
  return text;
}

std::string JobMachine::message() const {
  const auto with_cause = [this](const std::string& text) {
    return cause_.empty() ? text : text.empty() ? cause_ : absl::StrCat(cause_, "; ", text);
  };
  switch (phase_) {
    case Phase::kPending:
      if (short_detail_.empty() && registered_workers_ == 0) return job_.message;
      return absl::StrCat("needs ", gang_.ranks(), gang_.ranks() == 1 ? " worker: " : " workers: ",
                          !short_detail_.empty()
                              ? short_detail_
                              : absl::StrCat(registered_workers_, " are registered, ", idle_workers_, " idle"));
    case Phase::kAdopting:
      return absl::StrCat("the coordinator restarted: ", gang_.held(), " of ", gang_.ranks(), " ranks are back");
    case Phase::kPersisting:
      return cause_;
    case Phase::kOpening:
    case Phase::kChanging:
      return with_cause(shards_wait_.empty() ? "" : absl::StrCat("waiting for ", shards_wait_));
    case Phase::kGathering:
      return with_cause(WorkersMessage());
    case Phase::kConnecting:
      return with_cause("connecting");
    case Phase::kFinishing:
      return "finishing: history, last checkpoint and digest";
    case Phase::kTraining:
    case Phase::kClosing:
    case Phase::kEnded:
    case Phase::kSteppedDown:
      return job_.message;
  }
  return job_.message;
}

}  // namespace penstock
