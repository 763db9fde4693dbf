// Runs core's StepLeader: turns its actions into calls of the parameter service, and their answers into its events.
//
// Commit is called by one thread; Abort from any, which ends it at once. One object serves one epoch.
#ifndef PENSTOCK_WORKER_RUNTIME_COMMIT_DRIVER_H_
#define PENSTOCK_WORKER_RUNTIME_COMMIT_DRIVER_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/commit/step_leader.h"
#include "protos/penstock/v1/step.pb.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class CommitDriver {
 public:
  // `client` outlives the driver; options.shard_count is its own.
  CommitDriver(StepLeader::Options options, StateClient* client);

  // Prepares and commits the step on all shards. An error is marked permanent or fenced (rank_error.h) where it is.
  // `known` as in StepLeader::Start; `records` go along with a published version.
  absl::StatusOr<v1::StepDecision> Commit(uint64_t step, const v1::StepInputs& inputs,
                                          const std::optional<v1::StepDecision>& known = std::nullopt,
                                          std::vector<v1::StepRecord> records = {});

  void Abort(const absl::Status& reason);

 private:
  using Event = std::function<StepLeader::Actions(StepLeader&)>;

  // Shared with answers that are still to come when the driver is gone.
  struct Inbox {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Event> events ABSL_GUARDED_BY(mutex);
    absl::Status aborted ABSL_GUARDED_BY(mutex);

    void Post(Event event);
  };

  // Executes the actions; the outcome, when one of them ends the step.
  std::optional<absl::StatusOr<v1::StepDecision>> Execute(const StepLeader::Actions& actions);
  // The next event, or nullopt when it is time for OnTick.
  absl::StatusOr<std::optional<Event>> Next();

  StateClient* const client_;
  const std::shared_ptr<Inbox> inbox_;
  // Of Commit's thread.
  StepLeader leader_;
  std::vector<v1::StepRecord> records_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_COMMIT_DRIVER_H_
