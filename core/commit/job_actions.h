// What JobMachine (job_machine.h) asks the coordinator to do, and what the coordinator keeps of a job in its store.
// Plain values, no behaviour.
//
// Actions of one event are executed in order. Each one that names an answer gets exactly one, as an event of the same
// machine; an answer that comes late (after the machine went on) is handed in all the same and ignored there.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/commit/gang.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// The durable part of a job's life.
struct PersistedJob {
  v1::JobState state = v1::JOB_STATE_PENDING;
  std::string message;
  // The newest epoch that was ever written; 0 before the first.
  uint64_t epoch = 0;
  // The epoch under which the shards were last told to open the job; 0 before the first.
  uint64_t open_epoch = 0;
  // The version that the job's own history begins after: 0, or the step of the checkpoint that it was resumed from.
  uint64_t base_step = 0;
  uint32_t recoveries = 0;
  uint32_t recoveries_without_progress = 0;
  // Every step is committed and the last validation is done; what is left is the final checkpoint and cleaning up.
  bool finished = false;
  // The shards may hold the job: to be closed before it is done with. Also in an ended job, while that is under way.
  bool shards_open = false;
};

namespace job_action {

// Write the job with its new epoch, durably, if and only if the store's epoch is still job.epoch - 1 and the job is
// live there (compare-and-swap): an old coordinator must not revive a job that has ended meanwhile. OK too when the
// store holds this very epoch from an earlier try of this coordinator that seemed to fail. Answer: OnEpochPersisted.
struct PersistEpoch {
  PersistedJob job;
};
// Write the job, if the store's epoch is job.epoch; done before the actions after it are begun. No answer when it
// succeeds. A newer epoch is reported with OnEpochPersisted(job.epoch, FAILED_PRECONDITION), and the rest of the
// actions is dropped; the same goes for every write of the history.
struct PersistJob {
  PersistedJob job;
};
// OpenJob on every shard under `epoch`. First open (restore false): from what the spec's `resume` asks for. Restore:
// from the newest good checkpoint of this job at a step <= step_max (a later one, of a history that was cut, has steps
// behind it whose records are gone), or as at the first open if there is none. All shards from the same source; when
// the action comes again for the same epoch, from the same one as before. Asking shards that don't answer again is the
// coordinator's. Replaces an OpenShards or StartEpochChange that is under way. Answer: OnShardsOpened.
struct OpenShards {
  uint64_t epoch = 0;
  bool restore = false;
  uint64_t step_max = 0;
};
// Run an EpochChange for `epoch`. Replaces one that is under way. Answer: OnEpochReady, OnRestoreNeeded or
// OnEpochChangeFailed.
struct StartEpochChange {
  uint64_t epoch = 0;
  uint64_t open_epoch = 0;
};
// Drop the records of steps after `step` from the history and the ledger: the job's history goes on from there.
struct CutHistory {
  uint64_t step = 0;
};
// Read the records of steps from `from_step` on from the shards into the history. Answer: OnStepsFetched. What arrives
// when the machine's epoch isn't `epoch` any more is dropped, not written: the history may have been cut meanwhile.
struct FetchSteps {
  uint64_t epoch = 0;
  uint64_t from_step = 0;
};
// Send the Assignment of `epoch` to the workers: workers[r] becomes rank r. Answers: OnRankReady of each, or a failure.
struct AssignRanks {
  uint64_t epoch = 0;
  uint64_t start_step = 0;
  std::vector<WorkerRef> workers;
};
// Send StopRank to the workers (again and again for one that doesn't answer). Answer: OnRankStopped of each.
struct StopRanks {
  uint64_t epoch = 0;
  std::vector<WorkerRef> workers;
  std::string reason;
};
// These workers are the job's no longer; each one is free for others.
struct ReleaseWorkers {
  std::vector<WorkerRef> workers;
};
// A worker that heartbeats but doesn't stop when told so. It is the job's no longer, and of no use to others: end its
// stream with ABORTED, so that the process starts anew.
struct EvictWorker {
  WorkerRef worker;
  std::string reason;
};
// Write, complete and keep the checkpoint of `step` (a complete one that is there already counts), note the job's
// digest that comes with it, apply the retention, release the snapshot. Runs beside the training. Answer:
// OnCheckpointDone.
struct WriteCheckpoint {
  uint64_t step = 0;
};
// Let go of the shards' snapshot of `step`: it will not be written.
struct ReleaseSnapshot {
  uint64_t step = 0;
};
// Take the job's digest of `step` from the shards. Answer: OnDigestDone.
struct TakeDigest {
  uint64_t step = 0;
};
// CloseJob on every shard, best effort. Answer: OnShardsClosed.
struct CloseShards {
  uint64_t epoch = 0;
};
// One line for the job's events.
struct Note {
  std::string message;
};
// Another coordinator has taken the job over: stop touching it. Nothing follows. A coordinator that is still the one
// that members report to reads the store again and goes on with a new machine (Restore), which takes a newer epoch.
struct StepDown {
  std::string reason;
};

}  // namespace job_action

using JobAction = std::variant<job_action::PersistEpoch, job_action::PersistJob, job_action::OpenShards,
                               job_action::StartEpochChange, job_action::CutHistory, job_action::FetchSteps,
                               job_action::AssignRanks, job_action::StopRanks, job_action::ReleaseWorkers,
                               job_action::EvictWorker, job_action::WriteCheckpoint, job_action::ReleaseSnapshot,
                               job_action::TakeDigest, job_action::CloseShards, job_action::Note, job_action::StepDown>;
using JobActions = std::vector<JobAction>;

}  // namespace penstock
