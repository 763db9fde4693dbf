// One rank of one job for one epoch, from its assignment to its end, on a thread of its own.
//
//   RankRunner::Options options;
//   options.assignment = command.assign();
//   options.connect = ...; options.state = ...; options.report = ...;
//   RankRunner runner(std::move(options));
//   ...
//   runner.Stop("the job was cancelled");       // any thread; returns at once
//   runner.WaitEnded(absl::Seconds(5));          // RankStopped was reported, nothing of the job's is held any more
//
// It connects to its peers, pulls the start version, says RankReady, and trains step by step. It ends
//   - stopped: after Stop, with RankStopped;
//   - fenced: the parameter service refuses its epoch: RankFailed (which nobody needs) and RankStopped by itself;
//   - failed: RankFailed at once, with the cause, the cursor and the peer that is to blame; then it holds its
//   connections,
//     so that its peers don't take it for the one that died, until Stop, or kHoldAfterFailure;
//   - lost: its device can't be used any more, whatever else happened: RankFailed with the device's words, and
//     Options::device_lost, which should end the process;
//   - finished: the leader says JobFinished; memory is freed, connections are held until Stop.
// Nothing here waits for the coordinator while it trains: reports are handed to Options::report, which must not block.
//
// Thread-safe. The destructor stops and joins.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_RUNNER_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_RUNNER_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "services/telemetry/timeline.h"
#include "worker/comm/connector.h"
#include "worker/model/memory_plan.h"
#include "worker/ops/backend.h"
#include "worker/runtime/abort_scope.h"
#include "worker/runtime/rank_metrics.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/rank_progress.h"
#include "worker/runtime/state_client.h"

namespace penstock {

// How long a failed rank waits for its StopRank before it lets go by itself.
inline constexpr absl::Duration kHoldAfterFailure = absl::Seconds(30);
// The longest that a version may take to be committed, other ranks' work included. As StepLeader's step_timeout.
inline constexpr absl::Duration kVersionTimeout = absl::Minutes(10);

// Records of steps that the leader keeps for the next published version.
inline constexpr size_t kUnpublishedRecordsMax = 4096;

// How long a rank waits for memory of its device that others have.
inline constexpr absl::Duration kMemoryWait = absl::Seconds(10);

// The cursor's text then, and when the last step is done.
inline constexpr char kMemoryActivity[] = "waiting for memory of the device that others have";
inline constexpr char kMirrorActivity[] = "waiting for the parameter service to follow";
inline constexpr char kFinishedActivity[] = "finished, waiting to be told to stop";

class RankRunner {
 public:
  struct Options {
    v1::Assignment assignment;
    // Threads that compute, where `backend` doesn't say otherwise.
    int threads = 1;
    // Makes what the rank computes with, on the rank's thread; the CPU's where it is empty.
    std::function<absl::StatusOr<std::unique_ptr<Backend>>()> backend;
    // Between the hosts' memories.
    std::function<std::unique_ptr<Connector>(const RankPlan&)> connect;
    // Between those of backends whose memory isn't the host's; empty, or null from it, where messages are to be copied
    // through the host.
    std::function<std::unique_ptr<Connector>(const RankPlan&)> connect_devices;
    std::function<absl::StatusOr<std::unique_ptr<StateClient>>(const RankPlan&)> state;
    // Takes a report with job and epoch filled in. Must not block.
    std::function<void(v1::MemberReport)> report;
    // Told once, when the rank ends, that the process can't compute on its device any more, and why. May be empty; must
    // not block.
    std::function<void(const absl::Status&)> device_lost;
    WorkerMetrics* metrics = nullptr;  // may be null
    Timeline* timeline = nullptr;      // may be null
    absl::Duration hold_after_failure = kHoldAfterFailure;
    // For memory of a device that others have.
    absl::Duration memory_wait = kMemoryWait;
  };

  explicit RankRunner(Options options);
  ~RankRunner();
  RankRunner(const RankRunner&) = delete;
  RankRunner& operator=(const RankRunner&) = delete;

  // Ends every wait and the rank. The first reason stays.
  void Stop(const std::string& reason);
  // Whether all its memory and connections are gone.
  bool released() const;
  // Whether, besides, RankStopped was reported.
  bool ended() const;
  bool WaitEnded(absl::Duration timeout) const;

  const v1::Assignment& assignment() const { return options_.assignment; }
  v1::RunningRank running() const;
  v1::Cursor cursor() const { return progress_.cursor(); }

 private:
  struct Session;

  void Main();
  // Everything up to the end of the job. The session stays for its connections.
  absl::Status Train(Session& session);
  // rank_prepare.cc
  absl::Status Prepare(Session& session);
  absl::Status PlanRank(Session& session);
  absl::StatusOr<Arena> AllocateArena(Session& session);
  absl::Status TakeMemory(Session& session);
  absl::Status ConnectPeers(Session& session);
  absl::Status Connect(Session& session);
  // One step; its two instructions at the end of the list.
  absl::Status RunStep(Session& session, uint64_t step);
  absl::Status ReduceAndPush(Session& session, uint64_t step);
  absl::Status CommitAndPull(Session& session, uint64_t step, std::optional<v1::StepDecision>* decision);
  // rank_local.cc: zero.placement local.
  absl::Status PlanLocal(Session& session);
  absl::Status BindLocal(Session& session);
  absl::Status UpdateLocally(Session& session, uint64_t step, std::optional<v1::StepDecision>* decision);
  // Of a step that is done, with what it took.
  v1::StepRecord RecordOf(const Session& session, const v1::StepDecision& decision, double seconds) const;
  absl::Status KeepStep(Session& session, const v1::StepDecision& decision, double seconds);
  absl::Status Publish(Session& session, const v1::StepDecision& decision);
  absl::Status Validate(Session& session, uint64_t version);
  void ReportFailure(const Session& session, const absl::Status& status);
  void Report(v1::MemberReport report);
  // Sleeps until Stop; false when `timeout` came first.
  bool WaitStopped(absl::Duration timeout);
  template <typename Condition>
  bool WaitFor(absl::Duration timeout, Condition condition) const;

  // Constant after construction.
  const Options options_;

  // Self-synchronised.
  AbortScope abort_;
  RankProgress progress_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;

  // Last: it uses all of the above.
  std::thread thread_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_RUNNER_H_
