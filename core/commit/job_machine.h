// The life of one job at the coordinator: a pure state machine. Events and time in, actions out (job_actions.h); the
// coordinator executes them and feeds the answers back as events.
//
// Not thread-safe: driven by the coordinator's event loop, which owns it. Every event may come at any time and in any
// phase; what doesn't fit (an old epoch, a worker that isn't the job's, an answer nobody waits for) changes nothing.
//
//   PENDING ─ workers offered ─> STARTING: persist epoch, open shards, seal and decide, assign, all ranks ready
//     ─> RUNNING ─ rank failed, worker or shard lost ─> RECOVERING: stop ranks, persist epoch, seal and decide (or open
//        again from a checkpoint), workers complete and stopped, assign, all ranks ready ─> RUNNING
//     ─ job finished ─> (RUNNING) history complete, final checkpoint, digest ─> ranks stopped, shards closed ─>
//     SUCCEEDED
//   any live state ─ cancel ─> CANCELLED;  ─ permanent failure, or too many recoveries without progress ─> FAILED
//
// The transitions by phase (Phase below): job_machine.cc (start, restart, what is shown), job_machine_epoch.cc (from a
// new epoch to assigned ranks), job_machine_ranks.cc (workers and ranks), job_machine_end.cc (finishing, closing).
//
// A worker that runs a rank which no machine holds it for (of a job that has ended, or one that came back too late) is
// told to stop by the coordinator again and again, and is idle only when it has said RankStopped.
//
// Usage: construct; for a new job wait until the scheduler can give WorkersWanted() workers at once, then
// OnWorkersOffered. For a job found in the store after a restart: Restore. Call OnTick at NextTick().
//
// Invariants (asserted):
//   J1 An epoch is used (opened, sealed, assigned) only after OnEpochPersisted for it.
//   J2 Ranks are assigned only after OnEpochReady of the same epoch, all ranks at once.
//   J3 A worker is assigned only when it is free: it never was assigned, it said that it stopped, or it is a new
//   process. J4 A job is done() only when it holds no worker and its shards were told to close. Its end is in the store
//   before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/commit/backoff.h"
#include "core/commit/epoch_change.h"
#include "core/commit/gang.h"
#include "core/commit/job_actions.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

class JobMachine {
 public:
  struct Options {
    v1::JobSpec spec;
    // Recoveries in a row without a step beyond the furthest one that was ever committed: the next one fails the job,
    // with the last cause, so that a failure that comes back every time doesn't loop for ever.
    uint32_t recoveries_without_progress_max = 5;
    // Assigned ranks that aren't all ready by then begin a new epoch.
    absl::Duration ready_timeout = absl::Minutes(2);
    // StopRank is sent again to a rank that hasn't answered, and after `stop_timeout` its worker is evicted.
    absl::Duration stop_resend = absl::Seconds(2);
    absl::Duration stop_timeout = absl::Seconds(30);
    // After a coordinator's restart: within this time (lease and some more) every rank has come back, or a new epoch
    // begins.
    absl::Duration adopt_timeout = absl::Seconds(10);
    // After a coordinator's restart the leader's JobFinished may have been lost with the old one: an adopted job whose
    // last step is committed and that stays silent for so long is recovered (the leader validates again and reports).
    absl::Duration finish_report_timeout = absl::Minutes(2);
    // The final checkpoint, digest and history are tried so often, with `backoff` between.
    int final_attempts_max = 5;
    BackoffOptions backoff{absl::Seconds(1), absl::Seconds(8)};
  };

  // A job that has just been submitted: PENDING.
  explicit JobMachine(Options options);

  // Takes up a job of the store, as the first event. `history_step` is the step up to which the
  // stored history is whole (a later record may be there already, when earlier reports were missed).
  // A live job with an epoch waits for its ranks (OnWorkerJoined) until adopt_timeout, then begins a new epoch.
  JobActions Restore(const PersistedJob& job, uint64_t history_step, absl::Time now);

  // --- Workers. ---
  // How many more workers the job wants right now, all of them at once; 0 when it wants none.
  int WorkersWanted() const;
  // Exactly WorkersWanted() idle workers; they are the job's until ReleaseWorkers, EvictWorker or OnWorkerLost.
  JobActions OnWorkersOffered(const std::vector<WorkerRef>& workers, absl::Time now);
  // The scheduler can't give them now: `registered` workers are alive, `idle` of them free. `detail` may say who has
  // the others ("2 are busy with job X"), or be empty. For the message only.
  JobActions OnWorkersShort(int registered, int idle, const std::string& detail, absl::Time now);
  // The scheduler wants the job's waiting workers for an older job. Releases the free ones while the job waits for
  // more; otherwise changes nothing.
  JobActions OnYieldWorkers(absl::Time now);
  // A worker's stream began, anew or again, and it says what it runs of this job (nullopt: nothing). Call it for a
  // worker that the job holds, and for one that says it runs this job. A rank that isn't wanted is told to stop.
  JobActions OnWorkerJoined(const WorkerRef& worker, const std::optional<v1::RunningRank>& running, absl::Time now);
  // The worker's lease ended or another process took its id. `reason` names the worker: "worker-2 was lost: ...".
  JobActions OnWorkerLost(const WorkerRef& worker, const std::string& reason, absl::Time now);

  // --- Ranks, as their workers report. ---
  JobActions OnRankReady(uint64_t epoch, const WorkerRef& worker, absl::Time now);
  // `cause`: one sentence for the user. The first failure of an epoch is the one that is shown; a lost worker's reason
  // replaces a mere consequence of it. permanent: another try can't help.
  JobActions OnRankFailed(uint64_t epoch, const WorkerRef& worker, const std::string& cause, bool permanent,
                          absl::Time now);
  JobActions OnRankStopped(uint64_t epoch, const WorkerRef& worker, absl::Time now);
  // A step's record from the leader. The caller has put it into the history.
  JobActions OnStepRecord(uint64_t epoch, const v1::StepRecord& record, absl::Time now);
  // Every step is committed and the last validation is done.
  JobActions OnJobFinished(uint64_t epoch, absl::Time now);

  // --- Shards. ---
  // A shard of the job has lost its memory or its lease. `reason` names it.
  JobActions OnShardLost(const std::string& reason, absl::Time now);

  // --- Answers to actions. ---
  // FAILED_PRECONDITION or ABORTED: the store has a newer epoch (StepDown). Other errors are tried again.
  JobActions OnEpochPersisted(uint64_t epoch, const absl::Status& status, absl::Time now);
  // `start_step`: the version that all shards hold now. Transient errors are tried again, others fail the job.
  JobActions OnShardsOpened(uint64_t epoch, const absl::StatusOr<uint64_t>& start_step, absl::Time now);
  JobActions OnEpochReady(uint64_t epoch, const EpochChange::Ready& ready, absl::Time now);
  JobActions OnRestoreNeeded(uint64_t epoch, const std::string& reason, absl::Time now);
  JobActions OnEpochChangeFailed(uint64_t epoch, const absl::Status& status, absl::Time now);
  // For the message: EpochChange::WaitingFor() while it waits, or what OpenShards waits for.
  void OnShardsWait(uint64_t epoch, const std::string& waiting_for);
  // `committed_step`: as far as the shards' records go.
  JobActions OnStepsFetched(uint64_t epoch, const absl::StatusOr<uint64_t>& committed_step, absl::Time now);
  JobActions OnCheckpointDone(uint64_t step, const absl::Status& status, absl::Time now);
  JobActions OnDigestDone(uint64_t step, const absl::Status& status, absl::Time now);
  JobActions OnShardsClosed(uint64_t epoch, absl::Time now);

  // --- The user, and time. ---
  // Ends a live job; while an epoch is being written, as soon as that is done. Changes nothing when it is ending or has
  // ended.
  JobActions OnCancel(absl::Time now);
  JobActions OnTick(absl::Time now);
  absl::Time NextTick() const;

  // --- What is shown. ---
  v1::JobState state() const { return job_.state; }
  // Why it waits, what it recovers from, why it failed; empty when there is nothing to say.
  std::string message() const;
  uint64_t epoch() const { return job_.epoch; }
  uint32_t recoveries() const { return job_.recoveries; }
  uint64_t committed_step() const { return committed_step_; }
  // Neither SUCCEEDED, FAILED nor CANCELLED.
  bool live() const;
  // Ended, and nothing is left to be cleaned up; or stepped down. The machine may be dropped.
  bool done() const { return phase_ == Phase::kEnded || phase_ == Phase::kSteppedDown; }
  // The workers held, by rank.
  const Gang& gang() const { return gang_; }
  const PersistedJob& persisted() const { return job_; }

 private:
  enum class Phase {
    kPending,      // no workers, no epoch under way
    kAdopting,     // after a restart: waiting for the ranks of the stored epoch
    kPersisting,   // PersistEpoch under way
    kOpening,      // OpenShards under way
    kChanging,     // the EpochChange under way
    kGathering,    // shards ready; waiting for ranks to stop and for workers
    kConnecting,   // assigned; waiting for every rank to be ready
    kTraining,     //
    kFinishing,    // finished: history, final checkpoint, digest
    kClosing,      // ending: ranks stopping, shards closing
    kEnded,        //
    kSteppedDown,  //
  };
  // One thing that is left to be done when every step is committed.
  struct FinalWork {
    bool needed = false;
    bool under_way = false;
    int attempts = 0;
    absl::Time retry_at = absl::InfiniteFuture();
    Backoff backoff;
  };

  // job_machine.cc
  void Enter(Phase phase);
  JobActions StepDown(const std::string& reason);
  std::string WorkersMessage() const;
  std::string UnreadyRanks() const;
  // A step is known to be committed in the current epoch: progress, checkpoints, digests.
  void NoteCommitted(uint64_t step, JobActions& out);
  void RequestCheckpoint(uint64_t step, JobActions& out);
  void StartNextCheckpoint(JobActions& out);
  void Fetch(JobActions& out);

  // job_machine_epoch.cc
  void BeginEpoch(JobActions& out);
  void BeginRecovery(const std::string& cause, bool loss, absl::Time now, JobActions& out);
  bool CountRecovery(absl::Time now, JobActions& out);
  void AskShards(JobActions& out);
  void TryAssign(absl::Time now, JobActions& out);

  // job_machine_ranks.cc
  void StopRank(int rank, const std::string& reason, absl::Time now, JobActions& out);
  void StopAllRanks(const std::string& reason, absl::Time now, JobActions& out);
  void RankIsFree(int rank, absl::Time now, JobActions& out);
  void RankIsGone(int rank, const std::string& reason, absl::Time now, JobActions& out);
  void TickStopping(absl::Time now, JobActions& out);
  void AdoptionDone(JobActions& out);
  bool Running() const;
  bool Gathering() const;

  // job_machine_end.cc
  void BeginFinishing(absl::Time now, JobActions& out);
  void DriveFinalWork(absl::Time now, JobActions& out);
  void FinalWorkDone(FinalWork& work, const char* what, const absl::Status& status, absl::Time now, JobActions& out);
  void HistoryFetched(const absl::Status& status, absl::Time now, JobActions& out);
  void Fail(const std::string& message, absl::Time now, JobActions& out);
  void BeginClosing(v1::JobState state, const std::string& message, absl::Time now, JobActions& out);
  void TryEnd(JobActions& out);

  const Options options_;
  const uint64_t total_steps_;
  Phase phase_ = Phase::kPending;
  PersistedJob job_;
  Gang gang_;

  // Steps. committed_step_ is the version that the shards are known to hold; recorded_step_ the last one
  // up to which the history is whole;
  // best_step_ the furthest step ever committed, which a restore doesn't lower: progress is what goes beyond it.
  uint64_t committed_step_ = 0;
  uint64_t recorded_step_ = 0;
  uint64_t best_step_ = 0;
  // A FetchSteps of this epoch is under way.
  bool fetching_ = false;

  // The epoch under way. need_open_: its shards are to be opened before they are sealed; restore_: not for the first
  // time.
  bool need_open_ = true;
  bool restore_ = false;
  std::string cause_;
  bool cause_is_loss_ = false;
  std::string shards_wait_;
  Backoff backoff_;
  // Of the phase: to ask again (persist, open, fetch), and to give up (adopt, connect, a finish report that doesn't
  // come).
  absl::Time retry_at_ = absl::InfiniteFuture();
  absl::Time deadline_ = absl::InfiniteFuture();

  // What the scheduler last said.
  int registered_workers_ = 0;
  int idle_workers_ = 0;
  std::string short_detail_;

  std::optional<uint64_t> checkpoint_under_way_;
  std::optional<uint64_t> checkpoint_next_;
  FinalWork final_history_;
  FinalWork final_checkpoint_;
  FinalWork final_digest_;
  bool shards_closed_ = false;
  // The job is to end (state and message), as soon as the epoch that is being written is known to be this
  // coordinator's.
  std::optional<std::pair<v1::JobState, std::string>> end_when_persisted_;
};

}  // namespace penstock
