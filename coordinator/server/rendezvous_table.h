// Where ranks of a job find each other: a small key-value store in memory for each job's present epoch.
//
// Thread-safe. A waiter's callback is called exactly once, never under the table's lock, on the thread of whoever ended
// the wait.
#ifndef PENSTOCK_COORDINATOR_SERVER_RENDEZVOUS_TABLE_H_
#define PENSTOCK_COORDINATOR_SERVER_RENDEZVOUS_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

inline constexpr size_t kRendezvousKeyBytesMax = 512;
inline constexpr size_t kRendezvousValueBytesMax = 256 << 10;
// Of one epoch.
inline constexpr size_t kRendezvousKeysMax = 65536;
inline constexpr size_t kRendezvousBytesMax = 64 << 20;
inline constexpr size_t kRendezvousWaitersMax = 8192;

class RendezvousTable {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<std::string>>)>;

  // The job's present epoch: those before it are over.
  void Begin(const std::string& job_id, uint64_t epoch);
  // All of the job's epochs are over.
  void End(const std::string& job_id);

  // Replaces a value that is there. FAILED_PRECONDITION: the epoch isn't the job's present one. RESOURCE_EXHAUSTED: a
  // limit.
  absl::Status Set(const std::string& job_id, uint64_t epoch, const std::string& key, const std::string& value);
  // Calls `done` with the values in the order of the keys as soon as all are set, which may be before this returns.
  // ABORTED: the epoch has ended meanwhile. CANCELLED: Cancel. Errors of Set, too. The waiter's number.
  uint64_t Wait(const std::string& job_id, uint64_t epoch, std::vector<std::string> keys, Done done);
  // The waiter gives up. Fine when it has its answer.
  void Cancel(uint64_t waiter);

 private:
  struct Epoch {
    uint64_t epoch = 0;
    std::map<std::string, std::string> values;
    size_t bytes = 0;
    std::set<uint64_t> waiters;
  };
  struct Waiter {
    std::string job_id;
    std::vector<std::string> keys;
    Done done;
  };
  struct Answer {
    Done done;
    absl::StatusOr<std::vector<std::string>> values;
  };

  absl::StatusOr<Epoch*> Find(const std::string& job_id, uint64_t epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The waiters of an epoch that is over.
  std::vector<Answer> EndLocked(const std::string& job_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static bool Complete(const Epoch& epoch, const std::vector<std::string>& keys, std::vector<std::string>* values);
  static void Give(std::vector<Answer> answers);

  std::mutex mutex_;
  std::map<std::string, Epoch> epochs_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_waiter_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_RENDEZVOUS_TABLE_H_
