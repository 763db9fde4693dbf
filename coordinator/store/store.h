// What the coordinator keeps for good: jobs with their epochs, the history of their steps, events and checkpoints.
//
// Two implementations: SQLite in one file (sqlite_store.h) and a fake in memory (fake_store.h). Every call is one
// transaction and blocks until it is done, so it is made from a thread that may wait, never from an event loop.
//
// Durability: what changes a job or an epoch (AddJob, PersistEpoch, WriteJob) survives a loss of power when it returns.
// Steps, events and checkpoints survive the process's death; the machine's may cost the last ones, which are read again
// from the shards.
//
// Thread-safe. Errors: NOT_FOUND for an unknown job; RESOURCE_EXHAUSTED when the disk is full; DATA_LOSS for a damaged
// file; UNAVAILABLE for one that is in use; each names the file.
#ifndef PENSTOCK_COORDINATOR_STORE_STORE_H_
#define PENSTOCK_COORDINATOR_STORE_STORE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/commit/job_actions.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

// Events kept; the oldest go first.
inline constexpr uint64_t kStoredEventsMax = 20'000;

struct StoredJob {
  std::string id;
  // Of the submission; unique.
  std::string request_id;
  // The effective job, its paths resolved.
  v1::JobSpec spec;
  absl::Time submitted_at;
  PersistedJob persisted;
  // Ids of the parameter shards that hold the job, in shard order; empty before the first open.
  std::vector<std::string> shards;
  // As it was last shown; without the spec. What can't be counted again (digest, last checkpoint, end) is taken from
  // here.
  v1::JobStatus shown;
};

struct StoredEvent {
  absl::Time time;
  // Empty for one of the cluster's own.
  std::string job_id;
  uint64_t epoch = 0;
  std::string message;
};

struct StoredCheckpoint {
  uint64_t step = 0;
  std::string path;
};

class Store {
 public:
  virtual ~Store() = default;

  // --- Jobs. ---
  // ALREADY_EXISTS when the id or the request id is taken.
  virtual absl::Status AddJob(const StoredJob& job) = 0;
  // In the order of submission.
  virtual absl::StatusOr<std::vector<StoredJob>> LoadJobs() = 0;
  // With its steps, events and checkpoints. Fine when it isn't there.
  virtual absl::Status RemoveJob(const std::string& id) = 0;
  // Writes the job with its new epoch if it is live in the store and the store's epoch is job.epoch - 1, or job.epoch
  // as written by this very `coordinator` before (an earlier try whose answer was lost). FAILED_PRECONDITION otherwise.
  virtual absl::Status PersistEpoch(const std::string& id, const std::string& coordinator, const PersistedJob& job,
                                    absl::Time now) = 0;
  // Writes the job, and how it is shown, if the store's epoch is job.epoch. FAILED_PRECONDITION otherwise.
  virtual absl::Status WriteJob(const std::string& id, const PersistedJob& job, const v1::JobStatus& shown) = 0;
  // How it is shown, alone; not worth a loss of power.
  virtual absl::Status WriteShown(const std::string& id, const v1::JobStatus& shown) = 0;
  virtual absl::Status WriteShards(const std::string& id, std::span<const std::string> shards) = 0;

  // --- History. All of it is written on behalf of an epoch: FAILED_PRECONDITION when the store has a newer one. ---
  // A record that is there already is replaced if `replace`, else kept.
  virtual absl::Status WriteSteps(const std::string& id, uint64_t epoch, std::span<const v1::StepRecord> records,
                                  bool replace) = 0;
  virtual absl::Status WriteValidation(const std::string& id, uint64_t epoch, uint64_t step, double loss) = 0;
  // Drops steps, validations and checkpoints after `step`.
  virtual absl::Status CutSteps(const std::string& id, uint64_t epoch, uint64_t step) = 0;
  // At most `limit` records of steps from `from_step` on, ascending, each with its validation loss where there is one.
  virtual absl::StatusOr<std::vector<v1::StepRecord>> ReadSteps(const std::string& id, uint64_t from_step,
                                                                size_t limit) = 0;

  // --- Events. ---
  virtual absl::Status AddEvents(std::span<const StoredEvent> events) = 0;
  // The newest `limit`, oldest first; of all jobs and the cluster when `id` is empty.
  virtual absl::StatusOr<std::vector<StoredEvent>> ReadEvents(const std::string& id, size_t limit) = 0;

  // --- Checkpoints that the job has written and completed. ---
  virtual absl::Status AddCheckpoint(const std::string& id, const StoredCheckpoint& checkpoint) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<StoredCheckpoint>> ReadCheckpoints(const std::string& id) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_STORE_STORE_H_
