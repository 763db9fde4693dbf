// Sends the gradients that a rank has updated its own weights with to the parameter service, which replays the same
// update, off the critical path: a thread, and a queue of at most `lag` steps. When the queue is full the rank waits,
// so the service is never more than `lag` steps behind. The leader's thread drives the commits too.
//
//   Mirror mirror({.lag = 1, ...});
//   mirror.PlanMemory(&memory);
//   mirror.Start(arena, &backend, client, driver);
//   mirror.Take(k, gradients);                                               // may wait
//   mirror.Add({.step = k, .decision = ..., .record = ...});
//   mirror.Drain();                                                          // all steps are committed
//
// Thread-safety: Add, Report and Drain are the rank's thread's; Abort may come from any and ends every wait. The first
// error stays and is what every later call answers with. Everything given to Start outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_MIRROR_H_
#define PENSTOCK_WORKER_RUNTIME_MIRROR_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/layout/range.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/step.pb.h"
#include "worker/model/memory_plan.h"
#include "worker/runtime/commit_driver.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class Mirror {
 public:
  struct Options {
    int lag = 1;
    // What the rank pushes; may be empty.
    std::vector<ElementRange> ranges;
    // The gradients are in the host's memory, and stay as they are for `lag` steps more (GradientSums): nothing is
    // copied.
    bool in_place = false;
    // The longest that the commit of a step may take.
    absl::Duration timeout = absl::Minutes(10);
    // Takes reports of what is committed, in order. Must not block.
    std::function<void(v1::MemberReport)> report;
    // Told the number of steps that the service is behind, whenever it changes. May be empty; must not block.
    std::function<void(int steps)> on_lag;
  };
  struct Step {
    uint64_t step = 0;
    // The leader's: what the ranks have updated with, and the record to report when the service has committed it.
    std::optional<v1::StepDecision> decision;
    v1::StepRecord record;
  };

  explicit Mirror(Options options) : options_(std::move(options)) {}
  // Ends the thread, and with it the client's and the driver's calls; what isn't sent yet isn't.
  ~Mirror();

  // Of the host: the thread pushes from it.
  void PlanMemory(MemoryPlan* memory);
  // `backend` copies the gradients; `driver`: the leader's, else null.
  void Start(const Arena& arena, Backend* backend, StateClient* client, CommitDriver* driver);

  // Takes the next step's `gradients`, which are Options::ranges, when there is room: as they are, or by a copy. The
  // device copies them beside what it computes: nobody may write to them before GuardGradients.
  absl::Status Take(uint64_t step, std::span<const GradientRange> gradients);
  // What is given to the device from now on may write to the gradients.
  absl::Status GuardGradients();
  // The step that was taken last is done, and may go to the service.
  absl::Status Add(Step step);
  // Reports as soon as all steps added so far are committed.
  void Report(v1::MemberReport report);
  // Waits until they are, and their reports are out.
  absl::Status Drain();
  void Abort(const absl::Status& reason);

 private:
  struct Entry {
    Step step;
    std::vector<GradientRange> gradients;
    // When they are there; null: they are.
    std::shared_ptr<Fence> copied;
    std::vector<v1::MemberReport> reports_after;
  };

  void Main();
  absl::Status Replay(const Entry& entry);
  // Waits until `condition` holds, or the mirror has ended.
  template <typename Condition>
  absl::Status WaitLocked(std::unique_lock<std::mutex>& lock, Condition condition);
  void NoteLagLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after Start.
  const Options options_;
  std::vector<RegionId> regions_;
  std::vector<std::span<float>> slots_;
  Backend* backend_ = nullptr;  // of the rank's thread
  StateClient* client_ = nullptr;
  CommitDriver* driver_ = nullptr;

  // The rank's thread's: of the step that was taken last.
  std::vector<GradientRange> taken_;
  std::shared_ptr<Fence> copied_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Oldest first; the front one is being replayed, and leaves when it is committed.
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_MIRROR_H_
