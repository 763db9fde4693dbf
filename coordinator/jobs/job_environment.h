// What a job's runner and its tasks work with: the loop that they live in, the helpers that wait in their place, and
// the cluster as the scheduler knows it. Not owned; outlives all runners.
#ifndef PENSTOCK_COORDINATOR_JOBS_JOB_ENVIRONMENT_H_
#define PENSTOCK_COORDINATOR_JOBS_JOB_ENVIRONMENT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/jobs/event_loop.h"
#include "coordinator/jobs/shard_calls.h"
#include "coordinator/jobs/store_writer.h"
#include "coordinator/jobs/work_pool.h"
#include "coordinator/planning/planner.h"
#include "coordinator/store/store.h"
#include "core/commit/gang.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "services/base/clock.h"
#include "services/storage/blobs.h"

namespace penstock {

// The scheduler as its runners see it. Called in the event loop.
class Cluster {
 public:
  virtual ~Cluster() = default;
  // Where the shard was last heard of; nullopt for one that this coordinator has never heard of.
  virtual std::optional<ShardAddress> FindShard(const std::string& id) const = 0;
  // What it said of itself then.
  virtual std::optional<v1::MemberInfo> FindShardInfo(const std::string& id) const = 0;
  // Ids of the living ones, in order.
  virtual std::vector<std::string> LivingShards() const = 0;
  // nullopt when it isn't alive.
  virtual std::optional<v1::MemberInfo> FindWorker(const WorkerRef& worker) const = 0;
  // What it last said that it was doing.
  virtual v1::Cursor CursorOf(const WorkerRef& worker) const = 0;
  // Whether it has a stream right now.
  virtual bool IsConnected(const WorkerRef& worker) const = 0;
  virtual void Send(const WorkerRef& worker, const v1::MemberCommand& command) = 0;
  virtual void Evict(const WorkerRef& worker, const std::string& reason) = 0;
  // Something has changed that the queue depends on.
  virtual void ScheduleSoon() = 0;
  // Ranks of this epoch may look for each other from now on, those of earlier ones no more.
  virtual void BeginEpoch(const std::string& job_id, uint64_t epoch) = 0;
  virtual void EndEpochs(const std::string& job_id) = 0;
  // The job as users see it from now on.
  virtual void Show(const v1::JobStatus& status) = 0;
  // A step was reported by its leader.
  virtual void ShowStep(const std::string& job_id, const v1::StepRecord& record) = 0;
  // The runner has nothing left to do. It may be dropped, but not within this call.
  virtual void JobIsDone(const std::string& job_id) = 0;
};

struct JobEnvironment {
  // Of this coordinator's process: which one wrote an epoch.
  std::string coordinator_id;
  const Clock* clock = nullptr;
  Loop* loop = nullptr;
  WorkPool* pool = nullptr;
  Store* store = nullptr;
  StoreWriter* writer = nullptr;
  ShardCalls* shards = nullptr;
  Blobs* blobs = nullptr;
  Cluster* cluster = nullptr;
  // None: nothing is predicted.
  Planner* planner = nullptr;
};

// Deadlines of one attempt. A shard that fills or writes gigabytes takes its time; it is asked again after that.
inline constexpr absl::Duration kOpenTimeout = absl::Minutes(10);
inline constexpr absl::Duration kCheckpointTimeout = absl::Minutes(10);
inline constexpr absl::Duration kSealTimeout = absl::Seconds(10);
inline constexpr absl::Duration kDecideTimeout = absl::Seconds(60);
inline constexpr absl::Duration kDigestTimeout = absl::Seconds(60);
inline constexpr absl::Duration kStepsTimeout = absl::Seconds(20);
inline constexpr absl::Duration kCloseTimeout = absl::Seconds(40);
// Attempts where the machine, too, tries again, or where it is best effort.
inline constexpr int kTaskAttemptsMax = 4;

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_JOB_ENVIRONMENT_H_
