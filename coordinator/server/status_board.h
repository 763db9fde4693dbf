// The jobs as clients see them: written by the scheduler, read by gRPC's threads without troubling it.
//
// Thread-safe. A watcher is called on the scheduler's thread and must be quick.
#ifndef PENSTOCK_COORDINATOR_SERVER_STATUS_BOARD_H_
#define PENSTOCK_COORDINATOR_SERVER_STATUS_BOARD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

using SharedStatus = std::shared_ptr<const v1::JobStatus>;

class StatusBoard {
 public:
  // A job that is shown for the first time is the newest one.
  void Show(const v1::JobStatus& status);
  void Forget(const std::string& id);

  // Newest first.
  std::vector<SharedStatus> All() const;
  // By name (its newest job), id, or a prefix of an id that is unique. NOT_FOUND; INVALID_ARGUMENT for a prefix of
  // several.
  absl::StatusOr<SharedStatus> Find(const std::string& job) const;

  // Calls `changed` whenever the job is shown again. Not called any more once Unwatch has returned.
  uint64_t Watch(const std::string& id, std::function<void(SharedStatus)> changed);
  void Unwatch(uint64_t watcher);

 private:
  struct Watcher {
    std::string id;
    std::function<void(SharedStatus)> changed;
  };

  mutable std::mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  // By order of first showing.
  std::map<uint64_t, SharedStatus> jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> order_by_id_ ABSL_GUARDED_BY(mutex_);

  // Held while watchers are called, so that Unwatch can promise what it does. Taken before mutex_.
  std::mutex watch_mutex_;
  std::map<uint64_t, Watcher> watchers_ ABSL_GUARDED_BY(watch_mutex_);
  uint64_t next_watcher_ ABSL_GUARDED_BY(watch_mutex_) = 1;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_STATUS_BOARD_H_
