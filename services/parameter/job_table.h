// The jobs that are open on a shard: opening, finding, closing.
//
// Thread-safe. Open and Close block for as long as they take, so they run on threads of their own; everything else is
// quick. While a job is being opened or closed, calls for it give UNAVAILABLE, and an OpenJob of the same epoch waits
// for the one under way.
#ifndef PENSTOCK_SERVICES_PARAMETER_JOB_TABLE_H_
#define PENSTOCK_SERVICES_PARAMETER_JOB_TABLE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/parameter/shard_job.h"

namespace penstock {

class JobTable {
 public:
  explicit JobTable(const ShardResources& resources) : resources_(resources) {}
  ~JobTable();
  JobTable(const JobTable&) = delete;
  JobTable& operator=(const JobTable&) = delete;

  absl::StatusOr<v1::OpenJobResponse> Open(const v1::OpenJobRequest& request);
  absl::Status Close(const v1::CloseJobRequest& request);
  // NOT_FOUND, or UNAVAILABLE while it is being opened or closed.
  absl::StatusOr<std::shared_ptr<ShardJob>> Find(const std::string& job_id) const;
  // All that are open, in order of their ids.
  std::vector<std::shared_ptr<ShardJob>> Jobs() const;

  // Ends what is being opened; every later Open gives UNAVAILABLE.
  void Stop();

 private:
  struct Entry {
    // Null while it is being opened for the first time.
    std::shared_ptr<ShardJob> job;
    // Of the Open under way; meaningless otherwise.
    uint64_t opening_epoch = 0;
    bool opening = false;
    bool closing = false;
    std::shared_ptr<std::atomic<bool>> cancelled;
  };
  using Lock = std::unique_lock<std::mutex>;

  // Decides what an Open does. The job, when it is open under this epoch; null when the caller is to open it (the entry
  // then says so).
  absl::StatusOr<std::shared_ptr<ShardJob>> BeginOpen(const v1::OpenJobRequest& request, Lock& lock);
  absl::StatusOr<std::shared_ptr<ShardJob>> OpenNow(const v1::OpenJobRequest& request,
                                                    const std::shared_ptr<ShardJob>& replaced,
                                                    const std::atomic<bool>& cancelled);
  void Remember(const std::string& job_id, uint64_t epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ShardResources resources_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> jobs_ ABSL_GUARDED_BY(mutex_);
  // Epochs under which jobs were closed, oldest first in `closed_order_`.
  std::map<std::string, uint64_t> closed_epochs_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> closed_order_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_JOB_TABLE_H_
