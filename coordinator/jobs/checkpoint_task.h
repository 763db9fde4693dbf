// Writing one checkpoint (the action WriteCheckpoint): the folder, every shard's part, the manifest, the retention.
//
// Lives in the event loop. Cancel() gives the checkpoint up: what isn't complete is taken away, and `done` isn't
// called.
#ifndef PENSTOCK_COORDINATOR_JOBS_CHECKPOINT_TASK_H_
#define PENSTOCK_COORDINATOR_JOBS_CHECKPOINT_TASK_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/jobs/fan_out.h"
#include "coordinator/jobs/job_environment.h"
#include "protos/penstock/v1/parameter.pb.h"

namespace penstock {

class CheckpointTask : public std::enable_shared_from_this<CheckpointTask> {
 public:
  struct Written {
    std::string path;
    std::string digest;
  };
  struct Options {
    const JobEnvironment* environment = nullptr;
    std::string job_id;
    v1::JobSpec spec;
    uint64_t step = 0;
    std::vector<std::string> shards;
    std::function<void(absl::StatusOr<Written>)> done;
  };

  static std::shared_ptr<CheckpointTask> Start(Options options);
  void Cancel();

 private:
  struct Prepared {
    // A checkpoint of this very step that is complete already.
    std::optional<Written> complete;
    // Else the folder to write into.
    std::string partial;
  };

  explicit CheckpointTask(Options options) : options_(std::move(options)) {}
  std::string Folder() const;
  // On threads of the pool.
  std::optional<Written> FindComplete() const;
  absl::StatusOr<Prepared> Prepare() const;
  absl::StatusOr<Written> Finish(const std::string& partial,
                                 const std::vector<v1::WriteCheckpointResponse>& responses) const;
  // In the loop.
  void OnPrepared(const absl::StatusOr<Prepared>& prepared);
  void OnWritten(absl::StatusOr<std::vector<v1::WriteCheckpointResponse>> written);
  void Abandon();

  const Options options_;
  std::atomic<bool> cancelled_ = false;
  std::string partial_;
  std::shared_ptr<FanOut<v1::WriteCheckpointResponse>> write_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_CHECKPOINT_TASK_H_
