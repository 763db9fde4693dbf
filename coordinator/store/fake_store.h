// The Store in memory, with faults to order: for tests. It outlives a coordinator under test, so that the next one
// finds what the first one wrote. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_STORE_FAKE_STORE_H_
#define PENSTOCK_COORDINATOR_STORE_FAKE_STORE_H_

#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "coordinator/store/store.h"

namespace penstock {

class FakeStore final : public Store {
 public:
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

  // The next `count` calls that write fail with `status` and change nothing.
  void FailWrites(int count, absl::Status status);

 private:
  struct Job {
    StoredJob job;
    std::string epoch_writer;
    std::map<uint64_t, v1::StepRecord> steps;
    std::map<uint64_t, double> validations;
    std::map<uint64_t, std::string> checkpoints;
  };
  // The job that a write is for; the ordered failure, or NOT_FOUND.
  // `epoch`: of the writer; FAILED_PRECONDITION when the store has a newer one.
  absl::StatusOr<Job*> ForWrite(const std::string& id, uint64_t epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeFault() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::mutex mutex_;
  std::map<std::string, Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> order_ ABSL_GUARDED_BY(mutex_);
  std::deque<StoredEvent> events_ ABSL_GUARDED_BY(mutex_);
  int faults_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status fault_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_STORE_FAKE_STORE_H_
