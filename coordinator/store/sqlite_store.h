// The Store in one SQLite file (write-ahead log), for one coordinator at a time.
//
// Beside FILE lie FILE-wal and FILE-shm (SQLite's) and FILE.lock, which the coordinator holds locked while it lives.
// The file carries an application id and a schema version. Thread-safe: one connection writes and another reads, each
// behind a mutex, which is what a connection of SQLite is: one user at a time.
#ifndef PENSTOCK_COORDINATOR_STORE_SQLITE_STORE_H_
#define PENSTOCK_COORDINATOR_STORE_SQLITE_STORE_H_

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "coordinator/store/file_lock.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/store.h"

namespace penstock {

class SqliteStore final : public Store {
 public:
  // Opens the file, or makes it. ALREADY_EXISTS: another coordinator has it. DATA_LOSS: damaged, or no SQLite file.
  // FAILED_PRECONDITION: another program's, or of a newer schema. Each says what can be done. Nothing is changed then.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path);

  absl::Status AddJob(const StoredJob& job) override;
  absl::StatusOr<std::vector<StoredJob>> LoadJobs() override;
  absl::Status RemoveJob(const std::string& id) override;
  absl::Status PersistEpoch(const std::string& id, const std::string& coordinator, const PersistedJob& job,
                            absl::Time now) override;
  absl::Status WriteJob(const std::string& id, const PersistedJob& job, const v1::JobStatus& shown) override;
  absl::Status WriteShown(const std::string& id, const v1::JobStatus& shown) override;
  absl::Status WriteShards(const std::string& id, std::span<const std::string> shards) override;
  absl::Status WriteSteps(const std::string& id, uint64_t epoch, std::span<const v1::StepRecord> records,
                          bool replace) override;
  absl::Status WriteValidation(const std::string& id, uint64_t epoch, uint64_t step, double loss) override;
  absl::Status CutSteps(const std::string& id, uint64_t epoch, uint64_t step) override;
  absl::StatusOr<std::vector<v1::StepRecord>> ReadSteps(const std::string& id, uint64_t from_step,
                                                        size_t limit) override;
  absl::Status AddEvents(std::span<const StoredEvent> events) override;
  absl::StatusOr<std::vector<StoredEvent>> ReadEvents(const std::string& id, size_t limit) override;
  absl::Status AddCheckpoint(const std::string& id, const StoredCheckpoint& checkpoint) override;
  absl::StatusOr<std::vector<StoredCheckpoint>> ReadCheckpoints(const std::string& id) override;

 private:
  enum class Durability { kPowerLoss, kProcessDeath };

  SqliteStore(std::unique_ptr<FileLock> lock, std::unique_ptr<SqliteDatabase> writer,
              std::unique_ptr<SqliteDatabase> reader)
      : lock_(std::move(lock)), writer_(std::move(writer)), reader_(std::move(reader)) {}

  absl::Status SetDurability(Durability durability) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  absl::Status UpdateJob(const std::string& id, const PersistedJob& job, const v1::JobStatus* shown)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // NOT_FOUND for an unknown job; FAILED_PRECONDITION when the store has a newer epoch. Within a transaction.
  absl::Status CheckEpoch(const std::string& id, uint64_t epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // NOT_FOUND when the last statement has changed no job.
  absl::Status CheckChanged(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);

  const std::unique_ptr<FileLock> lock_;

  std::mutex write_mutex_;
  const std::unique_ptr<SqliteDatabase> writer_ ABSL_PT_GUARDED_BY(write_mutex_);
  Durability durability_ ABSL_GUARDED_BY(write_mutex_) = Durability::kPowerLoss;

  std::mutex read_mutex_;
  const std::unique_ptr<SqliteDatabase> reader_ ABSL_PT_GUARDED_BY(read_mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_STORE_SQLITE_STORE_H_
